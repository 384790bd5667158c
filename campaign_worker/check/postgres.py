"""Looks at Postgres: reachable, writable, migrated, and reached the way DATABASE_POOLER says."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import asyncpg

from campaign_worker.check.finding import Finding, broken, doubtful, fine, refused
from campaign_worker.errors import CredentialsRefused, DatabaseAway
from campaign_worker.settings import Pooler
from campaign_worker.storage.faults import translated
from campaign_worker.storage.migrate import known_migrations, schema_version

if TYPE_CHECKING:
    from campaign_worker.settings import SecretUrl, Settings

LEAST_VERSION = 14
_NAMED = 3
_REFUSING = """
SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
WHERE nspname = $1 AND relname <> 'schema_migrations' AND CASE relkind
    WHEN 'r' THEN NOT (has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT')
        AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE'))
    WHEN 'S' THEN NOT has_sequence_privilege(c.oid, 'USAGE')
    ELSE false END
ORDER BY relname
"""
_POOLER_PORT = 6543
_POOLER_WORDS = ("pooler", "pgbouncer")


async def check_postgres(item: str, url: SecretUrl, settings: Settings) -> list[Finding]:
    """Connect and compare the schema's version with ours. `item` is the variable."""
    try:
        with translated(item):
            connection = await asyncpg.connect(url.get_secret_value(), statement_cache_size=0)
            try:
                return await _look(item, connection, settings)
            finally:
                connection.terminate()
    except CredentialsRefused as error:
        mend = f"set the user, password and database that {item}'s server has"
        if isinstance(error.__cause__, asyncpg.InsufficientPrivilegeError):
            mend = _grants(settings.database_schema, "its user")
        return [refused(item, f"{url}: {error.problem}", mend)]
    except DatabaseAway as error:
        mend = "start Postgres there, or correct host and port"
        return [broken(item, f"{url}: {error}", mend)]
    except (asyncpg.PostgresError, ValueError) as error:
        return [broken(item, f"{url}: {error}", "correct the URL")]


async def _look(
    item: str, connection: asyncpg.Connection[asyncpg.Record], settings: Settings
) -> list[Finding]:
    return [
        _version(item, connection),
        *await _writable(item, connection),
        await _schema(connection, settings.database_schema),
        *await _rights(connection, settings.database_schema),
        *(_pooler(settings) if item == "DATABASE_URL" else ()),
    ]


def _version(item: str, connection: asyncpg.Connection[asyncpg.Record]) -> Finding:
    version = connection.get_server_version()
    if version.major < LEAST_VERSION:
        mend = f"use Postgres {LEAST_VERSION} or newer"
        return doubtful(item, f"Postgres {version.major} is not what we test with", mend)
    return fine(item, f"Postgres {version.major}.{version.minor} answers")


async def _writable(item: str, connection: asyncpg.Connection[asyncpg.Record]) -> list[Finding]:
    if await connection.fetchval("SHOW transaction_read_only") == "on":
        return [broken(item, "only reads: a standby, or read-only by setting", "name the primary")]
    return []


async def _schema(connection: asyncpg.Connection[asyncpg.Record], schema: str) -> Finding:
    item = f"schema {schema}"
    expected = known_migrations()[-1].version
    version = await schema_version(connection, schema)
    if version == expected:
        return fine(item, f"migrated to version {version}")
    if version > expected:
        # As after a rollback, and for the old replicas in every deploy that migrates.
        text = f"version {version} is newer than this worker's {expected}, which runs all the same"
        return doubtful(item, text, "deploy the newer worker again")
    state = f"version {version}, this worker needs {expected}" if version else "not there"
    return broken(item, state, "run: campaign-worker migrate")


async def _rights(connection: asyncpg.Connection[asyncpg.Record], schema: str) -> list[Finding]:
    """Name what this user may not use: with it in the way `run` would hold its intake."""
    refusing = await connection.fetch(_REFUSING, schema)
    if not refusing:
        return []
    user = await connection.fetchval("SELECT quote_ident(current_user)")
    names = ", ".join(row["relname"] for row in refusing[:_NAMED])
    if len(refusing) > _NAMED:
        names += f" and {len(refusing) - _NAMED} more"
    return [broken(f"schema {schema}", f"{user} may not use {names}", _grants(schema, user))]


def _grants(schema: str, user: str) -> str:
    return (
        f"by the owner, and after each migration: GRANT USAGE ON SCHEMA {schema} TO {user}; GRANT"
        f" SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {user}; GRANT USAGE"
        f" ON ALL SEQUENCES IN SCHEMA {schema} TO {user}"
    )


def _pooler(settings: Settings) -> list[Finding]:
    """Guess from the URL; a pooler cannot be told from a server by asking it."""
    url = urlsplit(settings.database_url.get_secret_value())
    host = url.hostname or ""
    looks_pooled = any(word in host for word in _POOLER_WORDS) or f":{_POOLER_PORT}" in url.netloc
    if looks_pooled and settings.database_pooler is Pooler.SESSION:
        mend = "set DATABASE_POOLER=transaction, and MIGRATE_DATABASE_URL to the direct way"
        return [doubtful("DATABASE_POOLER", "DATABASE_URL looks like a pooler's", mend)]
    return [fine("DATABASE_POOLER", settings.database_pooler.value)]
