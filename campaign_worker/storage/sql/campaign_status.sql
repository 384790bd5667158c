SELECT status, name FROM {schema}.campaigns WHERE id = $1
