SELECT address, reason FROM {schema}.suppressions WHERE address = ANY ($1::text[])
