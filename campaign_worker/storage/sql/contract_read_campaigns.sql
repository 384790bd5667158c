SELECT key, campaign_id FROM {schema}.contract_campaigns WHERE key = ANY ($1::text[])
