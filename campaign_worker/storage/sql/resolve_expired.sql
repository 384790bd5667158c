-- A lease is honoured for one full length after Postgres itself has started: while it was away nobody
-- could renew.
UPDATE {schema}.messages m
SET state = CASE WHEN e.marked_at IS NULL THEN 'scheduled' ELSE 'in_doubt' END,
    reason = CASE WHEN e.marked_at IS NULL THEN NULL ELSE 'owner_lost_after_mark' END,
    detail = 'the lease ran out',
    deaths = m.deaths + 1,
    token = CASE WHEN e.marked_at IS NULL THEN NULL ELSE m.token END,
    lease_until = NULL,
    settled_at = CASE WHEN e.marked_at IS NULL THEN NULL ELSE clock_timestamp() END
FROM (
    SELECT x.id, x.marked_at FROM {schema}.messages x
    WHERE x.state = 'sending' AND x.lease_until < clock_timestamp()
      AND pg_postmaster_start_time() < clock_timestamp() - make_interval(secs => $1::float8)
    ORDER BY x.id LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED
) e
WHERE m.id = e.id
RETURNING m.id, m.state, m.attempts
