-- Message rows and counts stay as they are: a trigger moves what is deleted into the archive. Replicas
-- that do this beside each other take different rows.
WITH old AS (
    SELECT e.id FROM {schema}.tracking_events e
    WHERE e.occurred_at < now() - make_interval(days => $1::integer)
    LIMIT $2 FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM {schema}.tracking_events e USING old WHERE e.id = old.id RETURNING 1
)
SELECT count(*) FROM gone
