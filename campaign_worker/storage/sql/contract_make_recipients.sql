INSERT INTO {schema}.recipients (campaign_id, email)
SELECT DISTINCT w.campaign_id, w.email
FROM unnest($1::bigint[], $2::text[], $3::text[]) AS w (campaign_id, key, email)
WHERE NOT EXISTS (
    SELECT FROM {schema}.contract_recipients k WHERE k.campaign_id = w.campaign_id AND k.key = w.key)
ORDER BY w.campaign_id, w.email
ON CONFLICT (campaign_id, email) DO NOTHING
