-- Endings by the owner of the token. A row that the reconciler has put in doubt meanwhile still takes
-- its owner's answer: the owner knows what the server said.
UPDATE {schema}.messages m
SET state = w.state,
    reason = w.reason,
    detail = w.detail,
    attempts = m.attempts + w.attempts_spent,
    token = CASE WHEN w.state = 'scheduled' THEN NULL ELSE m.token END,
    lease_until = NULL,
    marked_at = CASE WHEN w.state = 'scheduled' THEN NULL ELSE m.marked_at END,
    due_at = CASE WHEN w.state = 'scheduled'
                  THEN clock_timestamp() + make_interval(secs => w.seconds) ELSE m.due_at END,
    message_id = coalesce(w.message_id, m.message_id),
    sent_at = CASE WHEN w.state = 'sent' THEN clock_timestamp() END,
    settled_at = CASE WHEN w.state <> 'scheduled' THEN clock_timestamp() END,
    bounced_at = CASE WHEN w.reason = 'hard_bounce' THEN clock_timestamp() ELSE m.bounced_at END
FROM (
    SELECT x.id, s.token, s.state, s.reason, s.detail, s.attempts_spent, s.seconds, s.message_id
    FROM {schema}.messages x
    JOIN unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::integer[],
                $7::float8[], $8::text[])
         AS s (id, token, state, reason, detail, attempts_spent, seconds, message_id) ON x.id = s.id
    WHERE x.token = s.token AND x.state IN ('sending', 'in_doubt')
      AND NOT (x.state = 'in_doubt' AND s.state = 'in_doubt')
    ORDER BY x.id FOR NO KEY UPDATE OF x
) w
WHERE m.id = w.id
RETURNING m.id, w.token
