INSERT INTO {schema}.follow_ups AS f
    (campaign_id, step, template_id, delay_seconds, condition, stop_on_reply, app_key,
     scheduled_by_app)
SELECT w.campaign_id, w.step, w.template_id, w.delay_seconds, w.condition, w.stop_on_reply,
       w.app_key, $8
FROM unnest($1::bigint[], $2::integer[], $3::bigint[], $4::bigint[], $5::text[], $6::boolean[],
            $7::text[])
     AS w (campaign_id, step, template_id, delay_seconds, condition, stop_on_reply, app_key)
ORDER BY w.campaign_id, w.step
ON CONFLICT (campaign_id, step) DO UPDATE
SET template_id = excluded.template_id, delay_seconds = excluded.delay_seconds,
    condition = excluded.condition, stop_on_reply = excluded.stop_on_reply,
    app_key = excluded.app_key, scheduled_by_app = excluded.scheduled_by_app
WHERE (f.template_id, f.delay_seconds, f.condition, f.stop_on_reply, f.app_key, f.scheduled_by_app)
    IS DISTINCT FROM (excluded.template_id, excluded.delay_seconds, excluded.condition,
                      excluded.stop_on_reply, excluded.app_key, excluded.scheduled_by_app)
