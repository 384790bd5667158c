-- An operator's word on mails whose outcome SMTP could not tell. The token goes: from here on a late
-- answer of the last owner changes nothing any more.
UPDATE {schema}.messages m
SET state = $3,
    reason = CASE WHEN $3 = 'failed' THEN 'operator' END,
    detail = 'decided by an operator',
    token = NULL, lease_until = NULL,
    marked_at = CASE WHEN $3 = 'scheduled' THEN NULL ELSE m.marked_at END,
    due_at = CASE WHEN $3 = 'scheduled' THEN clock_timestamp() ELSE m.due_at END,
    sent_at = CASE WHEN $3 = 'sent' THEN m.marked_at END,
    settled_at = CASE WHEN $3 = 'scheduled' THEN NULL ELSE clock_timestamp() END
FROM (
    SELECT x.id FROM {schema}.messages x
    WHERE x.state = 'in_doubt'
      AND ($1::bigint[] IS NULL OR x.id = ANY ($1)) AND ($2::bigint IS NULL OR x.campaign_id = $2)
    ORDER BY x.id FOR NO KEY UPDATE
) w
WHERE m.id = w.id
RETURNING m.id
