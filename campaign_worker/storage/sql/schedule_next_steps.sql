-- The next step that the campaign has: one may have been taken out. The app may have added the
-- follow-up's job, and so its row, before the first mail went out: the row then still keeps its
-- distance from it.
INSERT INTO {schema}.messages AS n (campaign_id, recipient_id, step, due_at, queue)
SELECT m.campaign_id, m.recipient_id, f.step, m.sent_at + make_interval(secs => f.delay_seconds),
       m.queue
FROM {schema}.messages m
JOIN LATERAL (
    SELECT x.step, x.delay_seconds, x.scheduled_by_app FROM {schema}.follow_ups x
    WHERE x.campaign_id = m.campaign_id AND x.step > m.step
    ORDER BY x.step LIMIT 1) f ON NOT f.scheduled_by_app
WHERE m.id = ANY ($1::bigint[]) AND m.state = 'sent'
ORDER BY m.id
ON CONFLICT (campaign_id, recipient_id, step) DO UPDATE SET due_at = excluded.due_at
    WHERE n.state = 'scheduled' AND n.due_at < excluded.due_at
