SELECT key FROM {schema}.contract_campaigns WHERE campaign_id = $1
