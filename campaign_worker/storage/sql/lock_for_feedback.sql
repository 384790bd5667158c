-- Every row that a report may change, in order of id: the mails, and what is still to go to the same
-- recipients.
SELECT m.id FROM {schema}.messages m
WHERE m.id = ANY ($1::bigint[])
   OR (m.recipient_id = ANY ($2::bigint[]) AND m.state = 'scheduled')
ORDER BY m.id
FOR NO KEY UPDATE
