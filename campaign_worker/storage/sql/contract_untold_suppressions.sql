SELECT s.address FROM {schema}.suppressions s
WHERE NOT EXISTS (SELECT FROM {schema}.contract_suppressions t WHERE t.address = s.address)
  AND s.address <> ALL ($2::text[])
ORDER BY s.address LIMIT $1
