SELECT id, state, token FROM {schema}.messages WHERE id = ANY ($1::bigint[])
