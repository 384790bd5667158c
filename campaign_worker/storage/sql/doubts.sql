SELECT m.id, m.campaign_id, m.recipient_id, m.step, m.attempts, m.message_id, m.marked_at,
       m.reason, m.detail
FROM {schema}.messages m
WHERE m.state = 'in_doubt'
  AND ($1::bigint[] IS NULL OR m.id = ANY ($1)) AND ($2::bigint IS NULL OR m.campaign_id = $2)
ORDER BY m.id LIMIT $3
