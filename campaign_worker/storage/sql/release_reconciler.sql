UPDATE {schema}.reconciler SET owner = NULL, until = '-infinity' WHERE owner = $1 AND epoch = $2
