SELECT m.id, m.campaign_id, m.recipient_id, m.step, m.idempotency_key, m.inline, m.queue, m.job_id
FROM {schema}.messages m
LEFT JOIN {schema}.campaigns c ON c.id = m.campaign_id
WHERE m.state = 'scheduled' AND m.due_at < clock_timestamp() - make_interval(secs => $1::float8)
  AND (c.status IS NULL OR c.status IN ('running', 'completed', 'cancelled'))
  AND m.id > $2
ORDER BY m.id LIMIT $3
