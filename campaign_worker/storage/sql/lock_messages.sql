-- In id order, so that two batches cannot deadlock; a row that somebody holds is busy, not waited for.
SELECT m.id
FROM {schema}.messages m
WHERE m.id IN (
    SELECT x.id
    FROM unnest($1::bigint[], $2::bigint[], $3::integer[]) AS w (campaign_id, recipient_id, step)
    JOIN {schema}.messages x
      ON x.campaign_id = w.campaign_id AND x.recipient_id = w.recipient_id AND x.step = w.step
    UNION ALL
    SELECT x.id
    FROM unnest($4::text[]) AS w (key)
    JOIN {schema}.messages x ON x.idempotency_key = w.key)
ORDER BY m.id
FOR NO KEY UPDATE SKIP LOCKED
