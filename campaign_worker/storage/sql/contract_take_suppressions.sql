-- Noted as told in the transaction that tells them; a replica that is doing so has these.
INSERT INTO {schema}.contract_suppressions (address)
SELECT s.address FROM {schema}.suppressions s
WHERE NOT EXISTS (SELECT FROM {schema}.contract_suppressions t WHERE t.address = s.address)
ORDER BY s.address LIMIT $1
ON CONFLICT DO NOTHING
RETURNING address
