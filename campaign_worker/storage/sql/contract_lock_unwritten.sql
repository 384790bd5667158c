-- The message's row is locked before it is read: whoever changes it meanwhile tells the app itself.
SELECT m.id
FROM {schema}.contract_unwritten u JOIN {schema}.messages m ON m.id = u.message_id
WHERE u.tried_at IS NULL OR u.tried_at < now() - make_interval(secs => $2::float8)
ORDER BY m.id LIMIT $1
FOR NO KEY UPDATE OF m SKIP LOCKED
