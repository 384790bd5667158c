"""Statements that follow each other go over one connection, and over another after a failure."""

from __future__ import annotations

import pytest

from campaign_worker.errors import DatabaseAway
from tests.integration.storage.kit import opened, world_of

WHO = "SELECT pg_backend_pid()"


@pytest.mark.parametrize("pooler", [False, True], ids=["session", "transaction pooler"])
async def test_a_session_serves_others_again_when_it_is_left(
    database_url: str, *, pooler: bool
) -> None:
    async with opened(database_url, pool_size=1, transaction_pooler=pooler) as database:
        database.sql["who"] = WHO
        async with database.session() as call:
            mine = [await call("who") for _ in range(3)]
        assert len(set(mine)) == 1
        assert await database.call("who") in mine


async def test_a_session_is_given_back_after_a_failure_and_taken_anew(database_url: str) -> None:
    async with world_of(database_url, pool_size=1) as world:
        world.database.sql["who"] = WHO
        async with world.database.session() as call:
            first = await call("who")
            # Nobody is told before the next statement fails.
            await world.execute("SELECT pg_terminate_backend($1, 5000)", first)
            with pytest.raises(DatabaseAway):
                await call("who")
            second = await world.database.call("who")
            assert second != first
            assert await call("who") == second


async def test_a_session_that_is_not_used_holds_nothing(database_url: str) -> None:
    async with opened(database_url, pool_size=1) as database:
        database.sql["who"] = WHO
        async with database.session():
            assert await database.call("who")
