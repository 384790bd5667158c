-- The counts' own row is the lock under which the app's counts are written.
SELECT k.campaign_id, k.key,
       n.sent_count AS sent, n.failed_count AS failed,
       n.skipped_count - k.already_sent AS skipped, n.in_doubt_count AS in_doubt,
       n.bounced_count AS bounced, n.unique_open_count AS opened, n.unique_click_count AS clicked,
       n.unsubscribed_count AS unsubscribed,
       k.sent AS sent_before, k.failed AS failed_before, k.skipped AS skipped_before,
       k.in_doubt AS in_doubt_before, k.bounced AS bounced_before, k.opened AS opened_before,
       k.clicked AS clicked_before, k.unsubscribed AS unsubscribed_before
FROM {schema}.campaign_counts n
JOIN {schema}.contract_campaigns k ON k.campaign_id = n.campaign_id
WHERE n.campaign_id = ANY ($1::bigint[])
ORDER BY n.campaign_id FOR NO KEY UPDATE
