-- A lease is honoured for one full length after Postgres itself has started: while it was away nobody
-- could renew. What had begun to be sent is in doubt, unless its provider takes the request again.
-- A row whose owners died $3 times is the likely cause: it goes out no more by itself. One that its
-- provider takes again is still repeated, since that ends the doubt; each time after as long as the
-- doubt is old, so that it takes about ten more processes with it at the most.
UPDATE {schema}.messages m
SET state = e.fate,
    reason = CASE e.fate WHEN 'in_doubt' THEN 'owner_lost_after_mark'
                         WHEN 'failed' THEN 'quarantined' END,
    detail = 'the lease ran out',
    deaths = m.deaths + 1,
    token = CASE WHEN e.fate = 'scheduled' THEN NULL ELSE m.token END,
    marked_at = CASE WHEN e.fate = 'in_doubt' THEN coalesce(m.marked_at, m.first_marked_at) END,
    lease_until = NULL,
    due_at = CASE WHEN e.patient THEN clock_timestamp() + (clock_timestamp() - m.first_marked_at)
                  ELSE m.due_at END,
    settled_at = CASE WHEN e.fate = 'scheduled' THEN NULL ELSE clock_timestamp() END
FROM (
    SELECT x.id, CASE
        WHEN x.replay_until > clock_timestamp() THEN 'scheduled'
        WHEN x.marked_at IS NOT NULL THEN 'in_doubt'
        WHEN x.deaths + 1 < $3::integer THEN 'scheduled'
        WHEN x.first_marked_at IS NOT NULL THEN 'in_doubt'
        ELSE 'failed' END AS fate,
        coalesce(x.replay_until > clock_timestamp() AND x.deaths + 1 >= $3::integer, false) AS patient
    FROM {schema}.messages x
    WHERE x.state = 'sending' AND x.lease_until < clock_timestamp()
      AND pg_postmaster_start_time() < clock_timestamp() - make_interval(secs => $1::float8)
    ORDER BY x.id LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED
) e
WHERE m.id = e.id
RETURNING m.id, m.state, m.attempts, m.deaths
