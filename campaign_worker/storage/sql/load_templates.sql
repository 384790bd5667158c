SELECT id, subject, html, text FROM {schema}.templates WHERE id = ANY ($1::bigint[])
