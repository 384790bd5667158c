-- The app's ids of rows of ours; a recipient with several of them comes several times.
SELECT w.campaign_id, w.recipient_id, c.key AS campaign_key, r.key AS recipient_key
FROM unnest($1::bigint[], $2::bigint[]) AS w (campaign_id, recipient_id)
JOIN {schema}.contract_campaigns c ON c.campaign_id = w.campaign_id
JOIN {schema}.contract_recipients r
  ON r.campaign_id = w.campaign_id AND r.recipient_id = w.recipient_id
ORDER BY r.key
