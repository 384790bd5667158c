-- The guards, read after the lock by a statement of its own: at READ COMMITTED it sees every pause and
-- unsubscribe that has committed by now.
SELECT w.ord,
       m.id, m.state, m.reason, m.message_id, m.token, m.attempts, m.deaths, m.idempotency_key, m.inline,
       m.campaign_id, m.recipient_id, m.step,
       m.transport, m.request, m.replay_until > clock_timestamp() AS replay_open,
       extract(epoch FROM clock_timestamp() - m.first_marked_at)::float8 AS first_marked_ago,
       extract(epoch FROM m.created_at)::float8 AS created_at_epoch,
       -- Of infinity nothing can be subtracted before version 17. Whoever waits looks again in a year.
       extract(epoch FROM least(m.due_at, clock_timestamp() + interval '1 year')
                          - clock_timestamp())::float8 AS due_in,
       extract(epoch FROM m.lease_until - clock_timestamp())::float8 AS lease_in,
       coalesce(m.template_id, CASE WHEN m.step = 0 THEN c.template_id ELSE f.template_id END)
           AS template_id,
       -- By the follow-up itself: a mail that was tried once keeps its template.
       m.step = 0 OR f.step IS NOT NULL AS step_known,
       CASE WHEN m.step > 0 THEN coalesce((
                SELECT max(x.step) FROM {schema}.follow_ups x
                WHERE x.campaign_id = m.campaign_id AND x.step < m.step), 0) END AS step_before,
       c.status AS campaign_status, c.name AS campaign_name, c.mail_from, c.reply_to, c.headers,
       c.track_opens, c.track_clicks, c.track_text,
       r.email, r.name AS recipient_name, r.data,
       r.unsubscribed_at IS NOT NULL AS unsubscribed, r.replied_at IS NOT NULL AS replied,
       f.condition, f.stop_on_reply,
       -- A step between a sent one and this has no row: it was added too late. An app that adds the jobs
       -- itself may have passed over it.
       CASE WHEN p.state = 'sent' AND NOT f.scheduled_by_app AND EXISTS (
                SELECT FROM {schema}.follow_ups x
                WHERE x.campaign_id = m.campaign_id AND x.step > p.step AND x.step < m.step)
            THEN 'absent' ELSE p.state END
           AS previous_state,
       p.message_id AS previous_message_id,
       p.first_opened_at IS NOT NULL AS previous_opened,
       p.first_clicked_at IS NOT NULL AS previous_clicked,
       EXISTS (SELECT FROM {schema}.campaigns k WHERE k.id = w.campaign_id) AS campaign_known,
       EXISTS (SELECT FROM {schema}.recipients k
               WHERE k.id = w.recipient_id AND k.campaign_id = w.campaign_id) AS recipient_known
FROM unnest($1::integer[], $2::bigint[], $3::bigint[], $4::integer[], $5::text[])
     AS w (ord, campaign_id, recipient_id, step, key)
LEFT JOIN {schema}.messages a
  ON a.campaign_id = w.campaign_id AND a.recipient_id = w.recipient_id AND a.step = w.step
LEFT JOIN {schema}.messages b ON b.idempotency_key = w.key
LEFT JOIN {schema}.messages m ON m.id = coalesce(a.id, b.id)
LEFT JOIN {schema}.campaigns c ON c.id = m.campaign_id
LEFT JOIN {schema}.recipients r ON r.id = m.recipient_id
LEFT JOIN {schema}.follow_ups f ON f.campaign_id = m.campaign_id AND f.step = m.step
LEFT JOIN LATERAL (
    SELECT x.step, x.state, x.message_id, x.first_opened_at, x.first_clicked_at
    FROM {schema}.messages x
    WHERE x.campaign_id = m.campaign_id AND x.recipient_id = m.recipient_id AND x.step < m.step
    ORDER BY x.step DESC LIMIT 1) p ON m.step > 0
