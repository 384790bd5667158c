INSERT INTO {schema}.contract_recipients (campaign_id, key, recipient_id)
SELECT w.campaign_id, w.key, r.id
FROM unnest($1::bigint[], $2::text[], $3::text[]) AS w (campaign_id, key, email)
JOIN {schema}.recipients r ON r.campaign_id = w.campaign_id AND r.email = w.email
ORDER BY w.campaign_id, w.key
ON CONFLICT (campaign_id, key) DO NOTHING
