UPDATE {schema}.contract_unwritten SET problem = $2, tried_at = now() WHERE message_id = $1
