-- Follow-ups that came due a moment ago and that no job has ever claimed: a crash between their settle
-- and the adding of their job leaves nothing else. Older ones are met on the walk over all due rows.
SELECT m.id, m.campaign_id, m.recipient_id, m.step, m.idempotency_key, m.queue, m.job_id,
       m.job_timestamp, m.due_at, extract(epoch FROM m.due_at - now())::float8 AS due_in
FROM {schema}.messages m
WHERE m.state = 'scheduled' AND m.step > 0 AND m.job_id IS NULL
  AND m.due_at >= now() - make_interval(secs => $2::float8)
  AND m.due_at < now() - make_interval(secs => $1::float8)
  AND m.campaign_id NOT IN (
      SELECT c.id FROM {schema}.campaigns c WHERE c.status IN ('paused', 'draft'))
ORDER BY m.due_at, m.id LIMIT $3
