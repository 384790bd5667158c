SELECT id, url FROM {schema}.links WHERE id > $1 ORDER BY id LIMIT $2
