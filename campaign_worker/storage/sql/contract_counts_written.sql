UPDATE {schema}.contract_campaigns k
SET sent = w.sent, failed = w.failed, skipped = w.skipped, in_doubt = w.in_doubt,
    bounced = w.bounced, opened = w.opened, clicked = w.clicked, unsubscribed = w.unsubscribed
FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[],
            $7::bigint[], $8::bigint[], $9::bigint[])
     AS w (key, sent, failed, skipped, in_doubt, bounced, opened, clicked, unsubscribed)
WHERE k.key = w.key
