-- Whom a message went to: a recipient of a campaign, or those that a self-contained mail names.
SELECT m.id, r.email, m.inline
FROM {schema}.messages m LEFT JOIN {schema}.recipients r ON r.id = m.recipient_id
WHERE m.id = ANY ($1::bigint[])
