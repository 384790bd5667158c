-- Take the reconciler's lease, or keep it: free, over, or still ours under the epoch that we know. Its
-- row stays locked to the end of this transaction, so nobody takes over in the middle of a chunk.
UPDATE {schema}.reconciler
SET owner = $1,
    until = clock_timestamp() + make_interval(secs => $3::float8),
    epoch = epoch + CASE WHEN owner = $1 AND epoch = coalesce($2::bigint, epoch) THEN 0 ELSE 1 END
WHERE (owner = $1 AND epoch = coalesce($2::bigint, epoch)) OR until < clock_timestamp() OR $4::boolean
RETURNING epoch
