-- Unless it was paused and resumed again meanwhile.
UPDATE {schema}.campaigns SET resumed_at = NULL WHERE id = $1 AND resumed_at = $2
