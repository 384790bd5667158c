SELECT m.id, m.recipient_id, m.step,
       extract(epoch FROM least(m.due_at, clock_timestamp() + interval '1 year')
                          - clock_timestamp())::float8 AS due_in
FROM {schema}.messages m
WHERE m.campaign_id = $1 AND m.state = 'scheduled' AND m.recipient_id IS NOT NULL
  AND m.id > $2
ORDER BY m.id LIMIT $3
