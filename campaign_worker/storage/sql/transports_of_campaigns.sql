SELECT id, transport FROM {schema}.campaigns WHERE id = ANY ($1::bigint[])
