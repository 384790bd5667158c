SELECT address, reason, created_at FROM {schema}.suppressions
WHERE address = ANY ($1::text[]) ORDER BY address
