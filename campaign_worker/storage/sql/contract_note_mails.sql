INSERT INTO {schema}.contract_mails (message_id)
SELECT m.id FROM {schema}.messages m WHERE m.idempotency_key = ANY ($1::text[])
ORDER BY m.id ON CONFLICT DO NOTHING
