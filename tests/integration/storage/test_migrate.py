"""Migrations: once each, by one replica at a time, and never over what is not ours."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from campaign_worker.errors import DatabaseAway, MigrationError, SettingsError
from campaign_worker.storage.database import Database, DatabaseOptions
from campaign_worker.storage.migrate import known_migrations, migrate
from shutdown import Deadline
from tests.integration.storage.kit import opened
from tests.support import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LAST = known_migrations()[-1].version
ALL = tuple(one.version for one in known_migrations())


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close(timeout=2)


async def tables(connection: asyncpg.Connection[Any], schema: str) -> set[str]:
    rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = $1", schema)
    return {row["tablename"] for row in rows}


async def test_the_second_run_applies_nothing(empty_database_url: str) -> None:
    first = await migrate(empty_database_url)
    second = await migrate(empty_database_url)
    assert (first.applied, first.version) == (ALL, LAST)
    assert (second.applied, second.version) == ((), LAST)
    async with opened(empty_database_url) as database:
        await database.check_schema()


async def test_of_five_runs_at_once_one_applies_everything(empty_database_url: str) -> None:
    reports = await asyncio.gather(*(migrate(empty_database_url) for _ in range(5)))
    assert sorted((report.applied for report in reports), key=len) == [(), (), (), (), ALL]


async def test_it_writes_nothing_outside_its_schema_of_another_name(
    empty_database_url: str,
) -> None:
    await migrate(empty_database_url, schema="mail_2")
    async with connected(empty_database_url) as connection:
        assert "messages" in await tables(connection, "mail_2")
        assert await tables(connection, "public") == set()
        assert await tables(connection, "campaign_worker") == set()


@pytest.mark.parametrize("schema", ["", 'a"b', "a b", "Mail", "a;b", "ä", "x" * 64, "1a"])
async def test_a_name_that_needs_quotes_is_refused(empty_database_url: str, schema: str) -> None:
    with pytest.raises(SettingsError) as caught:
        await migrate(empty_database_url, schema=schema)
    assert caught.value.setting == "DATABASE_SCHEMA"


@pytest.mark.parametrize(
    "theirs",
    [
        "CREATE TABLE campaign_worker.campaigns (id text)",
        "CREATE TABLE campaign_worker.users (id text)",
        "CREATE VIEW campaign_worker.something AS SELECT 1",
        (
            "CREATE FUNCTION campaign_worker.check_message_transition() RETURNS int"
            " LANGUAGE sql AS 'SELECT 1'"
        ),
    ],
)
async def test_a_schema_that_holds_what_is_not_ours_is_refused_and_left_alone(
    empty_database_url: str, theirs: str
) -> None:
    async with connected(empty_database_url) as connection:
        await connection.execute(f"CREATE SCHEMA campaign_worker; {theirs}")
        before = await tables(connection, "campaign_worker")
        with pytest.raises(MigrationError, match="did not create"):
            await migrate(empty_database_url)
        assert await tables(connection, "campaign_worker") == before


async def test_an_empty_schema_of_our_name_is_taken(empty_database_url: str) -> None:
    async with connected(empty_database_url) as connection:
        await connection.execute("CREATE SCHEMA campaign_worker")
    assert (await migrate(empty_database_url)).applied == ALL


async def test_a_table_of_our_name_in_our_schema_that_we_did_not_create_is_refused(
    empty_database_url: str,
) -> None:
    await migrate(empty_database_url)
    async with connected(empty_database_url) as connection:
        # As after an upgrade whose new table somebody has made by hand.
        await connection.execute(
            "DELETE FROM campaign_worker.schema_migrations;"
            " COMMENT ON TABLE campaign_worker.messages IS 'theirs'"
        )
        with pytest.raises(MigrationError, match="did not create"):
            await migrate(empty_database_url)
        left = await connection.fetchval("SELECT count(*) FROM campaign_worker.schema_migrations")
        assert left == 0


async def test_a_migration_that_was_changed_after_it_was_applied_is_refused(
    empty_database_url: str,
) -> None:
    await migrate(empty_database_url)
    async with connected(empty_database_url) as connection:
        await connection.execute(
            "UPDATE campaign_worker.schema_migrations SET digest = 'x' WHERE version = 2"
        )
        with pytest.raises(MigrationError, match=r"migration 2 \(transitions\) differs"):
            await migrate(empty_database_url)


async def test_a_newer_schema_is_left_as_it_is(empty_database_url: str) -> None:
    await migrate(empty_database_url)
    async with connected(empty_database_url) as connection:
        await connection.execute(
            "INSERT INTO campaign_worker.schema_migrations (version, name, digest)"
            " VALUES (9999, 'future', 'x')"
        )
    report = await migrate(empty_database_url)
    assert (report.applied, report.version) == ((), 9999)
    async with opened(empty_database_url) as database:
        await database.check_schema()


async def test_a_schema_that_is_behind_or_absent_is_named(empty_database_url: str) -> None:
    async with opened(empty_database_url) as database:
        with pytest.raises(MigrationError, match="at version 0"):
            await database.check_schema()


async def test_a_pool_is_opened_once_however_often_its_schema_is_asked_for(
    empty_database_url: str,
) -> None:
    database = Database(DatabaseOptions(empty_database_url))
    try:
        async with connected(empty_database_url) as connection:
            for _ in range(3):
                with pytest.raises(MigrationError, match="at version 0"):
                    await database.open_migrated()
            others = await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            assert others == 1
    finally:
        await database.close(Deadline.after(2))


async def test_nobody_listening_is_away() -> None:
    with pytest.raises(DatabaseAway):
        await migrate(f"postgresql://nobody@127.0.0.1:{free_port()}/none")
