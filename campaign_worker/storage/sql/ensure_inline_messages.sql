-- A self-contained mail is durable from here on, whatever becomes of Redis.
INSERT INTO {schema}.messages (campaign_id, idempotency_key, inline, queue, job_id, job_timestamp)
SELECT w.campaign_id, w.key, w.inline::jsonb, w.queue, w.job_id, w.job_timestamp
FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[])
     AS w (campaign_id, key, inline, queue, job_id, job_timestamp)
LEFT JOIN {schema}.campaigns c ON c.id = w.campaign_id
WHERE (w.campaign_id IS NULL OR c.id IS NOT NULL)
  AND NOT EXISTS (SELECT FROM {schema}.messages m WHERE m.idempotency_key = w.key)
ORDER BY w.key
ON CONFLICT DO NOTHING
