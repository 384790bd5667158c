SELECT greatest(extract(epoch FROM until - clock_timestamp()), 0)::float8 AS seconds_left
FROM {schema}.reconciler WHERE until > '-infinity'
