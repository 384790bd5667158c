-- A complaint stands above a bounce: bounces may be taken back, complaints never are.
INSERT INTO {schema}.suppressions AS s (address, reason, message_id, detail)
SELECT w.address, w.reason, w.message_id, w.detail
FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[]) AS w (address, reason, message_id, detail)
ORDER BY w.address
ON CONFLICT (address) DO UPDATE
    SET reason = excluded.reason, message_id = excluded.message_id, detail = excluded.detail
    WHERE s.reason = 'hard_bounce' AND excluded.reason = 'complaint'
