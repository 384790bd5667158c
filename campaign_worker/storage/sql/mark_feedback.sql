-- The first bounce and the first complaint of a mail; not after now, whatever the provider's clock says.
UPDATE {schema}.messages m
SET bounced_at = coalesce(m.bounced_at, least(w.bounced_at, clock_timestamp())),
    complained_at = coalesce(m.complained_at, least(w.complained_at, clock_timestamp()))
FROM unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) AS w (id, bounced_at, complained_at)
WHERE m.id = w.id
  AND ((m.bounced_at IS NULL AND w.bounced_at IS NOT NULL)
       OR (m.complained_at IS NULL AND w.complained_at IS NOT NULL))
