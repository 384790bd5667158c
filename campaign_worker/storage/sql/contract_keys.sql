-- The app's ids of rows of ours; a recipient with several of them comes several times.
SELECT w.ord, c.key AS campaign_key, r.key AS recipient_key, f.app_key AS step_key
FROM unnest($1::integer[], $2::bigint[], $3::bigint[], $4::integer[])
     AS w (ord, campaign_id, recipient_id, step)
JOIN {schema}.contract_campaigns c ON c.campaign_id = w.campaign_id
JOIN {schema}.contract_recipients r
  ON r.campaign_id = w.campaign_id AND r.recipient_id = w.recipient_id
LEFT JOIN {schema}.follow_ups f ON f.campaign_id = w.campaign_id AND f.step = w.step
ORDER BY r.key
