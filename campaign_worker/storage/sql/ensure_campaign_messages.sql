-- A job may come before its row: make the rows that its campaign and recipient allow.
INSERT INTO {schema}.messages (campaign_id, recipient_id, step, queue, job_id, job_timestamp)
SELECT w.campaign_id, w.recipient_id, w.step, w.queue, w.job_id, w.job_timestamp
FROM unnest($1::bigint[], $2::bigint[], $3::integer[], $4::text[], $5::text[],
            $6::bigint[])
     AS w (campaign_id, recipient_id, step, queue, job_id, job_timestamp)
JOIN {schema}.recipients r ON r.id = w.recipient_id AND r.campaign_id = w.campaign_id
LEFT JOIN {schema}.follow_ups f ON f.campaign_id = w.campaign_id AND f.step = w.step
WHERE (w.step = 0 OR f.step IS NOT NULL)
  AND NOT EXISTS (
      SELECT FROM {schema}.messages m
      WHERE m.campaign_id = w.campaign_id AND m.recipient_id = w.recipient_id AND m.step = w.step)
ORDER BY w.campaign_id, w.recipient_id, w.step
ON CONFLICT DO NOTHING
