-- In order, so that two replicas that meet a template at once cannot deadlock.
INSERT INTO {schema}.links (template_id, position, url)
SELECT template_id, position, url
FROM unnest($1::bigint[], $2::integer[], $3::text[]) AS w (template_id, position, url)
ORDER BY template_id, position
ON CONFLICT (template_id, position) DO NOTHING
