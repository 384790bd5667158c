UPDATE {schema}.messages m
SET state = 'skipped', reason = w.reason, settled_at = clock_timestamp()
FROM unnest($1::bigint[], $2::text[]) AS w (id, reason)
WHERE m.id = w.id AND m.state = 'scheduled'
