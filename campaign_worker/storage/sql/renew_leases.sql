UPDATE {schema}.messages m
SET lease_until = clock_timestamp() + make_interval(secs => $3::float8)
FROM (
    SELECT x.id FROM {schema}.messages x
    JOIN unnest($1::bigint[], $2::text[]) AS w (id, token) ON x.id = w.id
    WHERE x.token = w.token AND x.state = 'sending'
    ORDER BY x.id FOR NO KEY UPDATE OF x
) mine
WHERE m.id = mine.id
RETURNING m.id, m.token
