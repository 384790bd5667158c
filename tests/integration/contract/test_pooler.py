"""A contract is verified and served through a pooler in transaction mode as well."""

from __future__ import annotations

import asyncio

from campaign_worker.storage.contract_probe import ContractProbe
from campaign_worker.storage.database import Database, DatabaseOptions
from shutdown import Deadline
from tests.fixtures.pgbouncer import Pooled
from tests.integration.contract.apps import App, Drizzle
from tests.integration.contract.kit import Place


async def test_nothing_depends_on_a_session(app: App, database_url: str, pooled: Pooled) -> None:
    options = DatabaseOptions(dsn=await pooled(database_url), transaction_pooler=True)
    database = Database(options)
    await database.open()
    try:
        place = Place(app, database)
        await ContractProbe(database, place.source).verify()
        campaign = await app.campaign(12)

        async def one(index: int) -> None:
            await place.send(await place.request(campaign, index))

        await asyncio.gather(*(one(index) for index in range(12)))
        word = "delivered" if isinstance(app, Drizzle) else "SENT"
        assert await app.statuses(campaign) == {word: 12}
    finally:
        await database.close(Deadline.after(2))
