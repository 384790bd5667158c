-- Campaigns whose counts are not what their rows say. No row: every count is true.
-- `misdated`: messages whose first open or click is not that of the first event that is no machine's.
-- Events that are in the archive can no longer contradict: there only a later time is untrue.
SELECT c.campaign_id, c.sent_count, m.sent, c.failed_count, m.failed, c.skipped_count, m.skipped,
       c.in_doubt_count, m.in_doubt, c.bounced_count, m.bounced, c.complained_count, m.complained,
       c.unsubscribed_count, r.unsubscribed, c.open_count, e.opens, c.machine_open_count,
       e.machine_opens, c.click_count, e.clicks, c.machine_click_count, e.machine_clicks,
       c.unique_open_count, m.opened, c.unique_click_count, m.clicked, f.misdated
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
LEFT JOIN {schema}.tracking_archive a ON a.campaign_id = c.campaign_id
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE t.kind = 'open' AND NOT t.machine)
               + coalesce(a.opens, 0) AS opens,
           count(*) FILTER (WHERE t.kind = 'open' AND t.machine)
               + coalesce(a.machine_opens, 0) AS machine_opens,
           count(*) FILTER (WHERE t.kind = 'click' AND NOT t.machine)
               + coalesce(a.clicks, 0) AS clicks,
           count(*) FILTER (WHERE t.kind = 'click' AND t.machine)
               + coalesce(a.machine_clicks, 0) AS machine_clicks
    FROM {schema}.tracking_events t JOIN {schema}.messages x ON x.id = t.message_id
    WHERE x.campaign_id = c.campaign_id) e
CROSS JOIN LATERAL (
    SELECT count(*) AS misdated
    FROM {schema}.messages x
    LEFT JOIN LATERAL (
        SELECT min(t.occurred_at) AS opened,
               min(t.occurred_at) FILTER (WHERE t.kind = 'click') AS clicked
        FROM {schema}.tracking_events t
        WHERE t.message_id = x.id AND NOT t.machine AND t.kind <> 'unsubscribe') first ON true
    WHERE x.campaign_id = c.campaign_id
      AND CASE WHEN a.campaign_id IS NULL
               THEN (first.opened, first.clicked)
                    IS DISTINCT FROM (x.first_opened_at, x.first_clicked_at)
               ELSE coalesce(first.opened < coalesce(x.first_opened_at, 'infinity'), false)
                    OR coalesce(first.clicked < coalesce(x.first_clicked_at, 'infinity'), false)
          END) f
WHERE (c.sent_count, c.failed_count, c.skipped_count, c.in_doubt_count, c.bounced_count,
       c.complained_count, c.unsubscribed_count, c.open_count, c.machine_open_count, c.click_count,
       c.machine_click_count, c.unique_open_count, c.unique_click_count, 0)
   IS DISTINCT FROM
      (m.sent, m.failed, m.skipped, m.in_doubt, m.bounced, m.complained, r.unsubscribed, e.opens,
       e.machine_opens, e.clicks, e.machine_clicks, m.opened, m.clicked, f.misdated)
