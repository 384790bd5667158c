-- The durable mark before the final dot, and the last fence: a lost claim marks nothing. The Message-ID
-- is there from now on, so that a bounce finds its row also when nobody ever hears of the 250.
UPDATE {schema}.messages m
SET marked_at = coalesce(m.marked_at, clock_timestamp()),
    message_id = mine.message_id,
    lease_until = clock_timestamp() + make_interval(secs => $3::float8)
FROM (
    SELECT x.id, w.message_id FROM {schema}.messages x
    JOIN unnest($1::bigint[], $2::text[], $4::text[]) AS w (id, token, message_id) ON x.id = w.id
    WHERE x.token = w.token AND x.state = 'sending' AND x.lease_until > clock_timestamp()
    ORDER BY x.id FOR NO KEY UPDATE OF x
) mine
WHERE m.id = mine.id
RETURNING m.id, m.token
