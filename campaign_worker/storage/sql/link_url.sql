SELECT url FROM {schema}.links WHERE id = $1
