"""Migrations: numbered SQL files, applied once each, in one transaction, by one replica at a time.

Touches nothing but a schema that it created itself; a schema of the same name that holds somebody
else's tables is refused. The advisory lock is of the transaction, so it also holds behind a
transaction pooler.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

import asyncpg

from campaign_worker.errors import MigrationError
from campaign_worker.storage.faults import connecting, translated
from campaign_worker.storage.statements import quoted_schema

if TYPE_CHECKING:
    from asyncpg import Connection
    from asyncpg.pool import PoolConnectionProxy

# "campaign" in ASCII; any constant does that other programs on the same database do not use.
_LOCK_KEY = 0x63616D706169676E
_CONNECT_TIMEOUT_SECONDS = 10.0

_OURS = "{schema} belongs to campaign-worker"


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file. `digest` is the SHA-256 of its text before the schema is filled in."""

    version: int
    name: str
    sql: str
    digest: str


@dataclass(frozen=True, slots=True)
class MigrationReport:
    """What a run did: versions applied now, and the version the schema has now."""

    schema: str
    applied: tuple[int, ...]
    version: int


def known_migrations() -> list[Migration]:
    """Read the files in order of their number."""
    folder = resources.files("campaign_worker.storage") / "migrations"
    found = []
    for entry in folder.iterdir():
        if entry.name.endswith(".sql"):
            text = entry.read_text()
            number, _, name = entry.name.removesuffix(".sql").partition("_")
            digest = hashlib.sha256(text.encode()).hexdigest()
            found.append(Migration(int(number), name, text, digest))
    return sorted(found, key=lambda migration: migration.version)


async def migrate(
    dsn: str, *, schema: str = "campaign_worker", setting: str = "DATABASE_URL"
) -> MigrationReport:
    """Bring the schema to this version. Idempotent; safe when several replicas start at once.

    `setting` is the variable that `dsn` came from. Raises MigrationError when the schema is
    somebody else's or was changed behind our back, DatabaseAway when Postgres cannot be reached,
    CredentialsRefused and SettingsError when it says no.
    """
    with connecting(setting):
        connection = await asyncpg.connect(
            dsn, timeout=_CONNECT_TIMEOUT_SECONDS, statement_cache_size=0
        )
    with translated(setting):
        try:
            async with connection.transaction():
                return await _migrate_locked(connection, schema)
        finally:
            await connection.close(timeout=_CONNECT_TIMEOUT_SECONDS)


async def schema_version(connection: Connection | PoolConnectionProxy, schema: str) -> int:
    """Version that the schema has; 0 when it is not there or not ours."""
    if not await _is_ours(connection, schema):
        return 0
    table = f"{quoted_schema(schema)}.schema_migrations"
    version = await connection.fetchval(f"SELECT coalesce(max(version), 0) FROM {table}")
    return int(version)


async def _migrate_locked(connection: Connection, schema: str) -> MigrationReport:
    name = quoted_schema(schema)
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK_KEY)
    if not await _is_ours(connection, schema):
        await _create_schema(connection, schema)
    rows = await connection.fetch(f"SELECT version, digest FROM {name}.schema_migrations")
    done = {row["version"]: row["digest"] for row in rows}
    applied = []
    for migration in known_migrations():
        if migration.version not in done:
            await _apply(connection, schema, migration)
            applied.append(migration.version)
        elif done[migration.version] != migration.digest:
            raise MigrationError(
                f"migration {migration.version} ({migration.name}) differs from the one that schema"
                f" {schema} was made with; install the version of campaign-worker that made it"
            )
    return MigrationReport(schema, tuple(applied), max([*done, *applied]))


async def _is_ours(connection: Connection | PoolConnectionProxy, schema: str) -> bool:
    comment = await connection.fetchval(
        "SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = $1", schema
    )
    return bool(comment == _OURS.format(schema=schema))


async def _create_schema(connection: Connection, schema: str) -> None:
    name = quoted_schema(schema)
    foreign = await connection.fetch(
        "SELECT relname AS name FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace"
        " WHERE nspname = $1 UNION SELECT proname FROM pg_proc"
        " JOIN pg_namespace n ON n.oid = pronamespace WHERE nspname = $1 ORDER BY name LIMIT 5",
        schema,
    )
    if foreign:
        names = ", ".join(row["name"] for row in foreign)
        raise MigrationError(
            f"schema {schema} holds tables or functions that campaign-worker did not create"
            f" ({names}); set DATABASE_SCHEMA to a name that is free"
        )
    await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {name}")
    await connection.execute(f"COMMENT ON SCHEMA {name} IS '{_OURS.format(schema=schema)}'")
    await connection.execute(
        f"CREATE TABLE {name}.schema_migrations (version integer PRIMARY KEY, name text NOT NULL,"
        " digest text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
    )


async def _apply(connection: Connection, schema: str, migration: Migration) -> None:
    name = quoted_schema(schema)
    try:
        await connection.execute(migration.sql.replace("{schema}", name))
    except asyncpg.DuplicateObjectError as error:
        raise MigrationError(
            f"migration {migration.version} ({migration.name}): {error}; schema {schema} holds"
            " something that campaign-worker did not create"
        ) from error
    except asyncpg.DuplicateTableError as error:
        raise MigrationError(
            f"migration {migration.version} ({migration.name}): {error}; schema {schema} holds"
            " a table that campaign-worker did not create"
        ) from error
    await connection.execute(
        f"INSERT INTO {name}.schema_migrations (version, name, digest) VALUES ($1, $2, $3)",
        migration.version,
        migration.name,
        migration.digest,
    )
