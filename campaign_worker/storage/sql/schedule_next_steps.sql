INSERT INTO {schema}.messages (campaign_id, recipient_id, step, due_at, queue)
SELECT m.campaign_id, m.recipient_id, f.step, m.sent_at + make_interval(secs => f.delay_seconds),
       m.queue
FROM {schema}.messages m
JOIN {schema}.follow_ups f ON f.campaign_id = m.campaign_id AND f.step = m.step + 1
WHERE m.id = ANY ($1::bigint[]) AND m.state = 'sent'
ORDER BY m.id
ON CONFLICT DO NOTHING
