-- An unsubscribe that came to us stays, whatever the app says. An address that another recipient of
-- the campaign has by now is left as it was.
UPDATE {schema}.recipients r
SET email = w.email, name = w.name, data = w.data,
    unsubscribed_at = coalesce(r.unsubscribed_at, CASE WHEN w.unsubscribed THEN now() END),
    replied_at = coalesce(r.replied_at, CASE WHEN w.replied THEN now() END)
FROM (
    SELECT x.id, g.name, g.data::jsonb AS data, g.unsubscribed, g.replied,
           CASE WHEN EXISTS (SELECT FROM {schema}.recipients o
                             WHERE o.campaign_id = x.campaign_id AND o.email = g.email)
                THEN x.email ELSE g.email END AS email
    FROM (SELECT DISTINCT ON (id) *
          FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::boolean[], $6::boolean[])
               AS v (id, email, name, data, unsubscribed, replied) ORDER BY id) g
    JOIN {schema}.recipients x ON x.id = g.id
    WHERE (x.email, x.name, x.data) IS DISTINCT FROM (g.email, g.name, g.data::jsonb)
       OR (g.unsubscribed AND x.unsubscribed_at IS NULL)
       OR (g.replied AND x.replied_at IS NULL)
    ORDER BY x.id FOR NO KEY UPDATE OF x
) w
WHERE r.id = w.id
