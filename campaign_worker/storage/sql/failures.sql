-- Mails that failed without anybody's word against their address: no attempt was left, or their owners
-- died. The trigger on messages permits a retry of exactly these.
SELECT m.id, m.campaign_id, m.recipient_id, m.step, m.reason, m.attempts, m.deaths, m.settled_at,
       m.detail
FROM {schema}.messages m
WHERE m.state = 'failed' AND m.reason IN ('exhausted', 'quarantined') AND m.bounced_at IS NULL
  AND ($1::bigint[] IS NULL OR m.id = ANY ($1)) AND ($2::bigint IS NULL OR m.campaign_id = $2)
ORDER BY m.id LIMIT $3
