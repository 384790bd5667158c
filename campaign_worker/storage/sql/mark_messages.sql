-- The durable mark before the final dot, and the last fence: a lost claim marks nothing. The Message-ID
-- is there from now on, so that a bounce finds its row also when nobody ever hears of the 250. So is the
-- request, if its provider takes it again; after its time no repetition begins.
UPDATE {schema}.messages m
SET marked_at = coalesce(m.marked_at, clock_timestamp()),
    message_id = mine.message_id,
    lease_until = clock_timestamp() + make_interval(secs => $3::float8),
    transport = coalesce(m.transport, mine.transport),
    request = coalesce(m.request, mine.request),
    first_marked_at = CASE WHEN mine.request IS NOT NULL
                           THEN coalesce(m.first_marked_at, clock_timestamp())
                           ELSE m.first_marked_at END,
    replay_until = coalesce(m.replay_until,
                            clock_timestamp() + make_interval(secs => mine.replay_seconds))
FROM (
    SELECT x.id, w.message_id, w.transport, w.request, w.replay_seconds FROM {schema}.messages x
    JOIN unnest($1::bigint[], $2::text[], $4::text[], $5::text[], $6::bytea[], $7::float8[])
         AS w (id, token, message_id, transport, request, replay_seconds) ON x.id = w.id
    WHERE x.token = w.token AND x.state = 'sending' AND x.lease_until > clock_timestamp()
      AND (x.replay_until IS NULL OR x.replay_until > clock_timestamp())
    ORDER BY x.id FOR NO KEY UPDATE OF x
) mine
WHERE m.id = mine.id
RETURNING m.id, m.token
