-- The recipients whose row nobody is changing: one that is being unsubscribed is busy until that has
-- committed. In id order, and never waiting.
SELECT r.id
FROM {schema}.recipients r
WHERE r.id = ANY ($1::bigint[])
ORDER BY r.id
FOR SHARE SKIP LOCKED
