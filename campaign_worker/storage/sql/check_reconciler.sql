-- Whether the lease is ours for $3 seconds at least: a chunk that only reads need not renew it, and so
-- commits nothing.
SELECT epoch FROM {schema}.reconciler
WHERE owner = $1 AND epoch = $2::bigint
  AND until > clock_timestamp() + make_interval(secs => $3::float8)
