SELECT id, template_id, position, url FROM {schema}.links WHERE template_id = ANY ($1::bigint[])
