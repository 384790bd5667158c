SELECT problem, count(*) AS endings FROM {schema}.contract_unwritten
WHERE problem IS NOT NULL GROUP BY problem ORDER BY count(*) DESC LIMIT 5
