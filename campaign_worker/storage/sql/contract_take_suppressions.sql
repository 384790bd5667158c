-- Noted as told in the transaction that tells them; a replica that is doing so has these.
INSERT INTO {schema}.contract_suppressions (address)
SELECT s.address FROM {schema}.suppressions s WHERE s.address = ANY ($1::text[])
ORDER BY s.address
ON CONFLICT DO NOTHING
RETURNING address
