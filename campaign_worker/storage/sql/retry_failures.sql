-- All attempts anew. One that was quarantined goes alone from its first claim on, and is quarantined
-- again if it still kills: $3 deaths count.
UPDATE {schema}.messages m
SET state = 'scheduled', reason = NULL, detail = 'retried by an operator',
    attempts = 0, deaths = least(m.deaths, $3::integer),
    token = NULL, lease_until = NULL, marked_at = NULL, settled_at = NULL,
    due_at = clock_timestamp()
FROM (
    SELECT x.id FROM {schema}.messages x
    WHERE x.state = 'failed' AND x.reason IN ('exhausted', 'quarantined') AND x.bounced_at IS NULL
      AND ($1::bigint[] IS NULL OR x.id = ANY ($1)) AND ($2::bigint IS NULL OR x.campaign_id = $2)
    ORDER BY x.id FOR NO KEY UPDATE
) w
WHERE m.id = w.id
RETURNING m.id
