-- Of rows that the claim has locked: scheduled, or sending under its own token.
UPDATE {schema}.messages m
SET state = 'skipped', reason = w.reason, lease_until = NULL, settled_at = clock_timestamp()
FROM unnest($1::bigint[], $2::text[]) AS w (id, reason)
WHERE m.id = w.id AND m.state IN ('scheduled', 'sending')
