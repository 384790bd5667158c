SELECT count(*) AS pending FROM {schema}.messages
WHERE campaign_id = $1 AND state = 'scheduled' AND recipient_id IS NOT NULL
