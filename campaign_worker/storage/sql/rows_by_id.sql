SELECT m.id, m.campaign_id, m.recipient_id, m.step, m.idempotency_key, m.queue, m.job_id,
       m.job_timestamp, m.due_at, extract(epoch FROM m.due_at - now())::float8 AS due_in
FROM {schema}.messages m WHERE m.id = ANY ($1::bigint[]) ORDER BY m.id
