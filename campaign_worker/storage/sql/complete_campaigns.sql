UPDATE {schema}.campaigns c
SET status = 'completed', completed_at = clock_timestamp()
WHERE c.status = 'running'
  AND NOT EXISTS (
      SELECT FROM {schema}.messages m
      WHERE m.campaign_id = c.id AND m.state IN ('scheduled', 'sending', 'in_doubt'))
  AND EXISTS (SELECT FROM {schema}.recipients r WHERE r.campaign_id = c.id)
  AND NOT EXISTS (
      SELECT FROM {schema}.recipients r
      WHERE r.campaign_id = c.id AND NOT EXISTS (
          SELECT FROM {schema}.messages m
          WHERE m.campaign_id = c.id AND m.recipient_id = r.id AND m.step = 0))
RETURNING c.id
