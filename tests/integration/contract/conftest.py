from __future__ import annotations

from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from campaign_worker.storage.database import Database, DatabaseOptions
from shutdown import Deadline
from tests.integration.contract.apps import App, Drizzle, Prisma
from tests.integration.contract.kit import Place

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def raw(database_url: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    """Return a connection that plays the app."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest.fixture
async def prisma(raw: asyncpg.Connection[Any]) -> Prisma:
    """Return an app of quoted camelCase tables, in a migrated database."""
    app = Prisma(raw)
    await app.create()
    return app


@pytest.fixture
async def drizzle(raw: asyncpg.Connection[Any]) -> Drizzle:
    """Return an app of snake_case tables, in a migrated database."""
    app = Drizzle(raw)
    await app.create()
    return app


@pytest.fixture(params=[Prisma, Drizzle], ids=["prisma", "drizzle"])
async def app(request: pytest.FixtureRequest, raw: asyncpg.Connection[Any]) -> App:
    """Run the test with each app."""
    app: App = request.param(raw)
    await app.create()
    return app


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """Return a pool over the app's database."""
    database = Database(DatabaseOptions(dsn=database_url))
    await database.open()
    yield database
    await database.close(Deadline.after(2))


@pytest.fixture
async def place(app: App, database: Database) -> Place:
    """Return a ledger over each app's tables."""
    return Place(app, database)


@pytest.fixture
async def prisma_place(prisma: Prisma, database: Database) -> Place:
    """Return a ledger over the tables of the camelCase app."""
    return Place(prisma, database)


@pytest.fixture
async def drizzle_place(drizzle: Drizzle, database: Database) -> Place:
    """Return a ledger over the tables of the snake_case app."""
    return Place(drizzle, database)
