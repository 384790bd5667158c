-- The reconciler leaves this campaign's jobs to the command that wakes them, for so long.
UPDATE {schema}.campaigns SET resumed_at = clock_timestamp() + make_interval(secs => $2::float8)
WHERE id = $1 AND status = 'running'
