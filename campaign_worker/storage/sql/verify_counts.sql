-- Campaigns whose counts are not what their rows say. No row: every count is true.
SELECT c.campaign_id, c.sent_count, m.sent, c.failed_count, m.failed, c.skipped_count, m.skipped,
       c.in_doubt_count, m.in_doubt, c.bounced_count, m.bounced, c.complained_count, m.complained,
       c.unsubscribed_count, r.unsubscribed, c.open_count, e.opens, c.machine_open_count,
       e.machine_opens, c.click_count, e.clicks, c.machine_click_count, e.machine_clicks,
       c.unique_open_count, m.opened, c.unique_click_count, m.clicked
FROM {schema}.campaign_counts c
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE state = 'sent') AS sent,
           count(*) FILTER (WHERE state = 'failed') AS failed,
           count(*) FILTER (WHERE state = 'skipped') AS skipped,
           count(*) FILTER (WHERE state = 'in_doubt') AS in_doubt,
           count(bounced_at) AS bounced, count(complained_at) AS complained,
           count(first_opened_at) AS opened, count(first_clicked_at) AS clicked
    FROM {schema}.messages x WHERE x.campaign_id = c.campaign_id) m
CROSS JOIN LATERAL (
    SELECT count(unsubscribed_at) AS unsubscribed
    FROM {schema}.recipients x WHERE x.campaign_id = c.campaign_id) r
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE t.kind = 'open' AND NOT t.machine) AS opens,
           count(*) FILTER (WHERE t.kind = 'open' AND t.machine) AS machine_opens,
           count(*) FILTER (WHERE t.kind = 'click' AND NOT t.machine) AS clicks,
           count(*) FILTER (WHERE t.kind = 'click' AND t.machine) AS machine_clicks
    FROM {schema}.tracking_events t JOIN {schema}.messages x ON x.id = t.message_id
    WHERE x.campaign_id = c.campaign_id) e
WHERE (c.sent_count, c.failed_count, c.skipped_count, c.in_doubt_count, c.bounced_count,
       c.complained_count, c.unsubscribed_count, c.open_count, c.machine_open_count, c.click_count,
       c.machine_click_count, c.unique_open_count, c.unique_click_count)
   IS DISTINCT FROM
      (m.sent, m.failed, m.skipped, m.in_doubt, m.bounced, m.complained, r.unsubscribed, e.opens,
       e.machine_opens, e.clicks, e.machine_clicks, m.opened, m.clicked)
