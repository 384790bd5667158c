DELETE FROM {schema}.follow_ups f
WHERE f.campaign_id = ANY ($1::bigint[]) AND NOT EXISTS (
    SELECT FROM unnest($2::bigint[], $3::integer[]) AS w (campaign_id, step)
    WHERE w.campaign_id = f.campaign_id AND w.step = f.step)
