SELECT c.id, c.name, c.status,
       (SELECT count(*) FROM {schema}.recipients r WHERE r.campaign_id = c.id) AS recipients,
       (SELECT count(*) FROM {schema}.messages m
        WHERE m.campaign_id = c.id AND m.state = 'scheduled') AS scheduled,
       (SELECT count(*) FROM {schema}.messages m
        WHERE m.campaign_id = c.id AND m.state = 'sending') AS sending,
       (SELECT count(*) FROM {schema}.messages m
        WHERE m.campaign_id = c.id AND m.state = 'failed' AND m.reason = 'quarantined') AS quarantined,
       k.sent_count, k.failed_count, k.skipped_count, k.in_doubt_count, k.bounced_count,
       k.complained_count, k.unsubscribed_count, k.open_count, k.unique_open_count,
       k.machine_open_count, k.click_count, k.unique_click_count, k.machine_click_count
FROM {schema}.campaigns c JOIN {schema}.campaign_counts k ON k.campaign_id = c.id
ORDER BY c.id DESC LIMIT $1
