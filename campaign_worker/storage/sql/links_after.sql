-- New links, the least first; of those long there only the last $3 ids are of interest.
SELECT id, url FROM {schema}.links
WHERE id > greatest($1::bigint, (SELECT max(id) FROM {schema}.links) - $3::bigint)
ORDER BY id LIMIT $2
