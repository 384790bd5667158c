-- From here to the end of the transaction no row of the app is waited for longer than $2: it may be
-- held by a transaction of the app that takes its time. And no statement runs longer than $3: the app
-- may have a slow trigger, or no index.
WITH patience AS MATERIALIZED (
    SELECT set_config('lock_timeout', $2, true), set_config('statement_timeout', $3, true)
), taken AS (
    DELETE FROM {schema}.contract_unwritten WHERE message_id = ANY ($1::bigint[])
    RETURNING message_id
)
SELECT m.id, m.campaign_id, c.key AS campaign_key, r.key AS recipient_key, m.step, m.state, m.reason,
       m.message_id, m.sent_at, m.settled_at, m.attempts, m.bounced_at IS NOT NULL AS bounced,
       m.idempotency_key
FROM patience CROSS JOIN taken t
JOIN {schema}.messages m ON m.id = t.message_id
LEFT JOIN {schema}.contract_campaigns c ON c.campaign_id = m.campaign_id
LEFT JOIN {schema}.contract_recipients r
  ON r.campaign_id = m.campaign_id AND r.recipient_id = m.recipient_id
WHERE m.state IN ('sent', 'failed', 'skipped', 'in_doubt')
ORDER BY m.id
