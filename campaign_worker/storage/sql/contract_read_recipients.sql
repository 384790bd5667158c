SELECT k.campaign_id, k.key, k.recipient_id
FROM unnest($1::bigint[], $2::text[]) AS w (campaign_id, key)
JOIN {schema}.contract_recipients k ON k.campaign_id = w.campaign_id AND k.key = w.key
