-- The mail that each report is about: by our Message-ID, by the provider's own id, or, where the
-- report names neither one nor a mail that is another's, the last one that its address may have got.
-- A complaint may come weeks later, and a report before the answer to the send is in the row.
SELECT w.ord, m.id, m.recipient_id, r.email
FROM unnest($1::integer[], $2::bigint[], $3::bigint[], $4::integer[], $5::text[], $6::text[],
            $7::text[], $8::timestamptz[])
     AS w (ord, campaign_id, recipient_id, step, message_id, provider_id, address, occurred_at)
CROSS JOIN LATERAL (
    SELECT found.id FROM (
        SELECT x.id, 1 AS rank FROM {schema}.messages x
        WHERE x.campaign_id = w.campaign_id AND x.recipient_id = w.recipient_id AND x.step = w.step
          AND x.message_id = w.message_id
        UNION ALL
        SELECT x.id, 2 FROM {schema}.messages x
        WHERE x.idempotency_key IS NOT NULL AND x.message_id = w.message_id
        UNION ALL
        SELECT x.id, 3 FROM {schema}.messages x
        WHERE x.state = 'sent' AND x.detail LIKE '%-____-____-____-____________%'
          AND {schema}.provider_id(x.detail) = w.provider_id
        UNION ALL
        (SELECT x.id, 4 FROM {schema}.recipients k JOIN {schema}.messages x ON x.recipient_id = k.id
         WHERE lower(k.email) = w.address AND w.message_id IS NULL
           AND x.state IN ('sending', 'sent', 'in_doubt') AND x.marked_at IS NOT NULL
           AND {schema}.provider_id(x.detail) IS NULL
           AND x.marked_at BETWEEN w.occurred_at - interval '30 days'
                               AND w.occurred_at + interval '5 minutes'
         ORDER BY x.marked_at DESC, x.id DESC LIMIT 1)
    ) found ORDER BY found.rank, found.id LIMIT 1
) f
JOIN {schema}.messages m ON m.id = f.id
LEFT JOIN {schema}.recipients r ON r.id = m.recipient_id
