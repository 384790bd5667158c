-- Opens, clicks and unsubscribes are counted by no settle.
SELECT k.campaign_id
FROM {schema}.contract_campaigns k
JOIN {schema}.campaign_counts n ON n.campaign_id = k.campaign_id
WHERE (k.sent, k.failed, k.skipped, k.in_doubt, k.bounced, k.opened, k.clicked, k.unsubscribed)
    IS DISTINCT FROM
      (n.sent_count, n.failed_count, n.skipped_count - k.already_sent, n.in_doubt_count,
       n.bounced_count, n.unique_open_count, n.unique_click_count, n.unsubscribed_count)
ORDER BY k.campaign_id LIMIT 1000
