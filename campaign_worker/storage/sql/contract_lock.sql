-- One replica at a time makes campaigns: two would make two of one.
SELECT pg_advisory_xact_lock(hashtextextended('{schema}.contract_campaigns', 0))
