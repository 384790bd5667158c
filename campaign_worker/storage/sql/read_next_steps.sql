-- Read, not returned by the insert: after a lost reply the second try inserts nothing, and the job of
-- the next step is still to be added.
SELECT m.id, n.campaign_id, n.recipient_id, n.step,
       extract(epoch FROM n.due_at - clock_timestamp())::float8 AS due_in
FROM {schema}.messages m
JOIN {schema}.messages n
  ON n.campaign_id = m.campaign_id AND n.recipient_id = m.recipient_id AND n.step = m.step + 1
WHERE m.id = ANY ($1::bigint[]) AND m.state = 'sent' AND n.state = 'scheduled'
  AND NOT EXISTS (SELECT FROM {schema}.follow_ups f
                  WHERE f.campaign_id = n.campaign_id AND f.step = n.step AND f.scheduled_by_app)
