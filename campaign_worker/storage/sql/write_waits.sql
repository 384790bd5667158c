-- A claim whose reply was lost is given up again: meanwhile the campaign was paused.
UPDATE {schema}.messages m
SET state = 'scheduled', token = NULL, lease_until = NULL
FROM unnest($1::bigint[], $2::text[]) AS w (id, token)
WHERE m.id = w.id AND m.state = 'sending' AND m.token = w.token AND m.marked_at IS NULL
