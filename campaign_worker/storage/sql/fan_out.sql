-- Rows first, jobs second: a page of recipients that have no first mail yet gets its rows.
INSERT INTO {schema}.messages (campaign_id, recipient_id, step, queue)
SELECT r.campaign_id, r.id, 0, $2
FROM {schema}.recipients r
WHERE r.campaign_id = $1 AND NOT EXISTS (
    SELECT FROM {schema}.messages m
    WHERE m.campaign_id = r.campaign_id AND m.recipient_id = r.id AND m.step = 0)
ORDER BY r.id LIMIT $3
ON CONFLICT DO NOTHING
RETURNING id
