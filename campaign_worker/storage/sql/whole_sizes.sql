SELECT m.id, coalesce(octet_length(m.inline::text), 0) AS size
FROM {schema}.messages m WHERE m.id = ANY ($1::bigint[]) AND m.state = 'scheduled' ORDER BY m.id
