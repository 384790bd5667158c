-- Read, not returned by the insert: after a lost reply the second try inserts nothing, and the job of
-- the next step is still to be added.
SELECT m.id, n.campaign_id, n.recipient_id, n.step,
       extract(epoch FROM n.due_at - clock_timestamp())::float8 AS due_in
FROM {schema}.messages m
JOIN LATERAL (
    SELECT x.step, x.scheduled_by_app FROM {schema}.follow_ups x
    WHERE x.campaign_id = m.campaign_id AND x.step > m.step
    ORDER BY x.step LIMIT 1) f ON NOT f.scheduled_by_app
JOIN {schema}.messages n
  ON n.campaign_id = m.campaign_id AND n.recipient_id = m.recipient_id AND n.step = f.step
WHERE m.id = ANY ($1::bigint[]) AND m.state = 'sent' AND n.state = 'scheduled'
