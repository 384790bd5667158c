-- now(), not clock_timestamp(): it can bound the walk through the index, so that rows which are due
-- next week are not even looked at. NOT IN, because its hashed subplan keeps the order of the index.
SELECT m.id, m.campaign_id, m.recipient_id, m.step, m.idempotency_key, m.queue, m.job_id,
       m.job_timestamp, m.due_at, extract(epoch FROM m.due_at - now())::float8 AS due_in
FROM {schema}.messages m
WHERE m.state = 'scheduled' AND m.due_at < now() - make_interval(secs => $1::float8)
  AND (m.due_at, m.id) > ($2::timestamptz, $3::bigint)
  AND (m.campaign_id IS NULL OR m.campaign_id NOT IN (
          SELECT c.id FROM {schema}.campaigns c WHERE c.status IN ('paused', 'draft')))
ORDER BY m.due_at, m.id LIMIT $4
