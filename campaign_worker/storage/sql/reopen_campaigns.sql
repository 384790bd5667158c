-- Completed campaigns of rows that are scheduled again: they can be paused, and end anew.
UPDATE {schema}.campaigns c SET status = 'running', completed_at = NULL
FROM (
    SELECT x.id FROM {schema}.campaigns x
    WHERE x.status = 'completed'
      AND x.id IN (SELECT m.campaign_id FROM {schema}.messages m WHERE m.id = ANY ($1::bigint[]))
      -- What an app's campaign is, the app says.
      AND NOT EXISTS (SELECT FROM {schema}.contract_campaigns k WHERE k.campaign_id = x.id)
    ORDER BY x.id FOR NO KEY UPDATE
) w
WHERE c.id = w.id
