-- From here to the end of the transaction no lock is waited for longer than this.
SELECT set_config('lock_timeout', $1, true)
