-- The first bounce and the first complaint of a mail; not after now, whatever the provider's clock says.
UPDATE {schema}.messages m
SET bounced_at = coalesce(m.bounced_at, w.bounced_at),
    complained_at = coalesce(m.complained_at, w.complained_at)
FROM (
    -- least() knows no NULL: of one and a time it is the time.
    SELECT x.id,
           CASE WHEN x.bounced_at IS NOT NULL
                THEN least(x.bounced_at, clock_timestamp()) END AS bounced_at,
           CASE WHEN x.complained_at IS NOT NULL
                THEN least(x.complained_at, clock_timestamp()) END AS complained_at
    FROM unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[])
         AS x (id, bounced_at, complained_at)
) w
WHERE m.id = w.id
  AND ((m.bounced_at IS NULL AND w.bounced_at IS NOT NULL)
       OR (m.complained_at IS NULL AND w.complained_at IS NOT NULL))
