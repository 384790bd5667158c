"""Postgres: the pool, named statements, migrations, and the ledger of messages."""
