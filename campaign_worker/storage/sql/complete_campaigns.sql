-- Scalar subqueries, each answered by the first entry of an index: as anti-joins they would read every
-- open row of every campaign. CASE keeps their order: who has an open row is asked no more.
UPDATE {schema}.campaigns c
SET status = 'completed', completed_at = clock_timestamp()
WHERE c.status = 'running'
  -- Where the row has changed since this statement began, as by an enqueue, all below is looked up as it
  -- was before that: left to the next look.
  AND c.ctid = (SELECT x.ctid FROM {schema}.campaigns x WHERE x.id = c.id)
  -- What an app's campaign is, the app says.
  AND NOT EXISTS (SELECT FROM {schema}.contract_campaigns k WHERE k.campaign_id = c.id)
  AND CASE
    WHEN (SELECT m.id FROM {schema}.messages m
          WHERE m.campaign_id = c.id AND m.state IN ('scheduled', 'sending', 'in_doubt')
          ORDER BY m.campaign_id, m.id LIMIT 1) IS NOT NULL THEN false
    WHEN (SELECT r.id FROM {schema}.recipients r WHERE r.campaign_id = c.id
          ORDER BY r.campaign_id, r.email LIMIT 1) IS NULL THEN false
    ELSE (SELECT r.id FROM {schema}.recipients r
          WHERE r.campaign_id = c.id AND NOT EXISTS (
              SELECT FROM {schema}.messages m
              WHERE m.campaign_id = c.id AND m.recipient_id = r.id AND m.step = 0)
          ORDER BY r.campaign_id, r.email LIMIT 1) IS NULL
END
RETURNING c.id
