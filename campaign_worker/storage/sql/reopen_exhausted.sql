-- Their jobs had failed for good, and somebody retries them (a dashboard, or the app): all attempts
-- anew. Only by the job that the row knows, and that has ended since; never after a bounce, and never
-- what was quarantined. Nor by that job as it was before: an old backup of Redis brought it back.
UPDATE {schema}.messages m
SET state = 'scheduled', reason = NULL, detail = 'its job was retried', attempts = 0,
    token = NULL, lease_until = NULL, marked_at = NULL, settled_at = NULL,
    due_at = clock_timestamp()
FROM unnest($1::bigint[], $2::bigint[], $3::integer[], $4::text[], $5::text[], $6::text[],
            $8::bigint[], $9::bigint[])
    AS w (campaign_id, recipient_id, step, key, queue, job_id, job_attempts, job_timestamp)
WHERE m.state = 'failed' AND m.reason = 'exhausted' AND m.bounced_at IS NULL
  AND (m.campaign_id = w.campaign_id AND m.recipient_id = w.recipient_id AND m.step = w.step
       OR m.idempotency_key = w.key)
  AND m.queue = w.queue AND m.job_id = w.job_id
  AND m.job_attempts IS DISTINCT FROM w.job_attempts AND m.id = ANY ($7::bigint[])
  AND (w.job_attempts < m.job_attempts AND w.job_timestamp = m.job_timestamp) IS NOT TRUE
