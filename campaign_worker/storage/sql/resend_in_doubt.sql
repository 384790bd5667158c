-- Policy AMBIGUOUS_SEND=resend: the same mail, to the byte, once more; it costs an attempt, so that a
-- server that always loses the reply does not get it for ever.
UPDATE {schema}.messages
SET state = 'scheduled', reason = NULL, attempts = attempts + 1, token = NULL, lease_until = NULL,
    marked_at = NULL, settled_at = NULL, due_at = clock_timestamp()
WHERE id = ANY ($1::bigint[]) AND state = 'in_doubt'
