-- Ordered, so that two replicas with the same events wait for each other and do not deadlock.
INSERT INTO {schema}.feedback_events (provider, event_id, address, kind, message_id,
                                      provider_message_id, detail, occurred_at)
SELECT w.provider, w.event_id, w.address, w.kind, w.message_id, w.provider_message_id, w.detail,
       w.occurred_at
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[],
            $8::timestamptz[])
     AS w (provider, event_id, address, kind, message_id, provider_message_id, detail, occurred_at)
ORDER BY w.provider, w.event_id, w.address
ON CONFLICT DO NOTHING
RETURNING provider, event_id, address
