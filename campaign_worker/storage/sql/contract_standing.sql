SELECT w.ord, m.state
FROM unnest($1::integer[], $2::bigint[], $3::bigint[], $4::integer[])
     AS w (ord, campaign_id, recipient_id, step)
JOIN {schema}.messages m
  ON m.campaign_id = w.campaign_id AND m.recipient_id = w.recipient_id AND m.step = w.step
