-- Hard bounces that came in a flood: the server speaks of us, not of these addresses.
DELETE FROM {schema}.suppressions WHERE message_id = ANY ($1::bigint[]) AND reason = 'hard_bounce'
