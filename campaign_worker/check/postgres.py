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
        mend = "run the newer worker, or go back with a backup"
        return broken(item, f"version {version} is newer than this worker's {expected}", mend)
    state = f"version {version}, this worker needs {expected}" if version else "not there"
    return broken(item, state, "run: campaign-worker migrate")


def _pooler(settings: Settings) -> list[Finding]:
    """Guess from the URL; a pooler cannot be told from a server by asking it."""
    url = urlsplit(settings.database_url.get_secret_value())
    host = url.hostname or ""
    looks_pooled = any(word in host for word in _POOLER_WORDS) or f":{_POOLER_PORT}" in url.netloc
    if looks_pooled and settings.database_pooler is Pooler.SESSION:
        mend = "set DATABASE_POOLER=transaction, and MIGRATE_DATABASE_URL to the direct way"
        return [doubtful("DATABASE_POOLER", "DATABASE_URL looks like a pooler's", mend)]
    return [fine("DATABASE_POOLER", settings.database_pooler.value)]
