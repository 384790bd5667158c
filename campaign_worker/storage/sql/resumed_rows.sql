SELECT m.id, m.campaign_id, m.recipient_id, m.step, m.idempotency_key, m.queue, m.job_id,
       m.job_timestamp, m.due_at, extract(epoch FROM m.due_at - now())::float8 AS due_in
FROM {schema}.messages m
WHERE m.campaign_id = $1 AND m.id > $2 AND m.due_at <= now()
  AND m.state = 'scheduled' AND m.state IN ('scheduled', 'sending', 'in_doubt')
ORDER BY m.id LIMIT $3
