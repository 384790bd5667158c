-- `settled`: resumed long enough ago that no worker can still be putting a job off because of the pause.
-- One that a command is still waking says a time ahead.
SELECT id, resumed_at, resumed_at < clock_timestamp() - make_interval(secs => $1::float8) AS settled
FROM {schema}.campaigns WHERE resumed_at <= clock_timestamp() AND status = 'running' ORDER BY id
