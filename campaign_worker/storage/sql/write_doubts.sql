-- Of rows that the claim has just made its own: a guard keeps them back, yet an earlier request of the
-- same mail may have been executed.
UPDATE {schema}.messages m
SET state = 'in_doubt', reason = 'replay_refused', detail = w.guard, marked_at = m.first_marked_at,
    lease_until = NULL, settled_at = clock_timestamp()
FROM unnest($1::bigint[], $2::text[], $3::text[]) AS w (id, token, guard)
WHERE m.id = w.id AND m.token = w.token AND m.state = 'sending' AND m.first_marked_at IS NOT NULL
