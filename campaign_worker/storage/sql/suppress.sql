INSERT INTO {schema}.suppressions (address, reason, message_id, detail)
SELECT w.address, 'hard_bounce', w.message_id, w.detail
FROM unnest($1::text[], $2::bigint[], $3::text[]) AS w (address, message_id, detail)
ORDER BY w.address
ON CONFLICT DO NOTHING
