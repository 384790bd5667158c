INSERT INTO {schema}.usage_events (idempotency_key, message_id)
SELECT 'message-' || m.id, m.id FROM {schema}.messages m
WHERE m.id = ANY ($1::bigint[]) AND m.state = 'sent'
ORDER BY m.id
ON CONFLICT DO NOTHING
