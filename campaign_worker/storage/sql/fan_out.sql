-- Rows first, jobs second: a page of recipients that have no first mail yet gets its rows. `last` is
-- where the next page begins, also when others made the rows of this one meanwhile.
WITH page AS (
    SELECT r.campaign_id, r.id
    FROM {schema}.recipients r
    WHERE r.campaign_id = $1 AND r.id > $3 AND NOT EXISTS (
        SELECT FROM {schema}.messages m
        WHERE m.campaign_id = r.campaign_id AND m.recipient_id = r.id AND m.step = 0)
    ORDER BY r.id LIMIT $4
), made AS (
    INSERT INTO {schema}.messages (campaign_id, recipient_id, step, queue)
    SELECT p.campaign_id, p.id, 0, $2 FROM page p ORDER BY p.id
    ON CONFLICT DO NOTHING
    RETURNING id
)
SELECT (SELECT max(id) FROM page) AS last, (SELECT count(*) FROM made) AS made
