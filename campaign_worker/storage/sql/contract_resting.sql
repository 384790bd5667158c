-- Campaigns whose resumption nobody but the app would notice.
SELECT k.key FROM {schema}.contract_campaigns k
JOIN {schema}.campaigns c ON c.id = k.campaign_id
WHERE c.status IN ('paused', 'draft') ORDER BY k.key
