-- Endings by the owner of the token. A row that the reconciler has put in doubt meanwhile still takes
-- its owner's answer: the owner knows what the server said.
UPDATE {schema}.messages m
SET state = w.state,
    reason = w.reason,
    detail = w.detail,
    attempts = m.attempts + w.attempts_spent,
    token = CASE WHEN w.state = 'scheduled' THEN NULL ELSE m.token END,
    lease_until = NULL,
    -- A repetition that never began ends by the mark of the request that it would have repeated.
    marked_at = CASE WHEN w.state <> 'scheduled' THEN coalesce(m.marked_at, m.first_marked_at) END,
    -- The request stays while it may have been executed: by this owner, or by one before it.
    transport = CASE WHEN w.kept THEN m.transport END,
    request = CASE WHEN w.kept THEN m.request END,
    first_marked_at = CASE WHEN w.kept THEN m.first_marked_at END,
    replay_until = CASE WHEN w.kept THEN m.replay_until END,
    due_at = CASE WHEN w.state = 'scheduled'
                  THEN clock_timestamp() + make_interval(secs => w.seconds) ELSE m.due_at END,
    message_id = coalesce(w.message_id, m.message_id),
    sent_at = CASE WHEN w.state = 'sent' THEN clock_timestamp() END,
    settled_at = CASE WHEN w.state <> 'scheduled' THEN clock_timestamp() END,
    bounced_at = CASE WHEN w.reason = 'hard_bounce' THEN clock_timestamp() ELSE m.bounced_at END
FROM (
    SELECT x.id, s.token, s.state, s.reason, s.detail, s.attempts_spent, s.seconds, s.message_id,
           s.unknown OR s.state <> 'scheduled' OR x.first_marked_at < x.claimed_at AS kept
    FROM {schema}.messages x
    JOIN unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::integer[],
                $7::float8[], $8::text[], $9::boolean[])
         AS s (id, token, state, reason, detail, attempts_spent, seconds, message_id, unknown)
      ON x.id = s.id
    WHERE x.token = s.token AND x.state IN ('sending', 'in_doubt')
      -- A doubt about an earlier request of the row is not ended by one that never began.
      AND NOT (x.state = 'in_doubt' AND (s.state = 'in_doubt' OR s.unknown
               OR (s.state = 'scheduled' AND coalesce(x.first_marked_at < x.claimed_at, false))))
    ORDER BY x.id FOR NO KEY UPDATE OF x
) w
WHERE m.id = w.id
RETURNING m.id, w.token
