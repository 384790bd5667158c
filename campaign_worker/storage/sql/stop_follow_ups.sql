-- A row with a request that may have been executed is left to the claim, which puts it in doubt.
UPDATE {schema}.messages m
SET state = 'skipped', reason = w.reason, lease_until = NULL, settled_at = clock_timestamp()
FROM unnest($1::bigint[], $2::text[]) AS w (recipient_id, reason)
WHERE m.recipient_id = w.recipient_id AND m.state = 'scheduled' AND m.request IS NULL
RETURNING m.id
