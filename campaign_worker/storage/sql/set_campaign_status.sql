-- $3: the state that it may come from. A campaign that is there already is let be.
UPDATE {schema}.campaigns SET status = $2 WHERE id = $1 AND status = $3 RETURNING id
