-- From here to the end of the transaction no lock is waited for longer than $1, and no statement runs
-- longer than $2.
SELECT set_config('lock_timeout', $1, true), set_config('statement_timeout', $2, true)
