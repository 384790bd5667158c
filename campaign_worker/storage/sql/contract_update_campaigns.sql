-- Locked in id order, and only those that say something new.
UPDATE {schema}.campaigns c
SET name = w.name, status = w.status, template_id = w.template_id, mail_from = w.mail_from,
    reply_to = w.reply_to, transport = w.transport, headers = w.headers,
    track_opens = w.track_opens, track_clicks = w.track_clicks, track_text = w.track_text,
    completed_at = CASE WHEN w.status = 'completed' THEN coalesce(c.completed_at, now()) END
FROM (
    SELECT x.id, g.name, g.status, g.template_id, g.mail_from, g.reply_to, g.transport,
           g.headers::jsonb AS headers, g.track_opens, g.track_clicks, g.track_text
    FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[],
                $7::text[], $8::text[], $9::boolean[], $10::boolean[], $11::boolean[])
         AS g (id, name, status, template_id, mail_from, reply_to, transport, headers,
               track_opens, track_clicks, track_text)
    JOIN {schema}.campaigns x ON x.id = g.id
    WHERE (x.name, x.status, x.template_id, x.mail_from, x.reply_to, x.transport, x.headers,
           x.track_opens, x.track_clicks, x.track_text)
        IS DISTINCT FROM
          (g.name, g.status, g.template_id, g.mail_from, g.reply_to, g.transport, g.headers::jsonb,
           g.track_opens, g.track_clicks, g.track_text)
    ORDER BY x.id FOR NO KEY UPDATE OF x
) w
WHERE c.id = w.id
