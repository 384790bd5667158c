"""The fixtures that every other test stands on."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
import redis.asyncio

from tests.support import eventually


async def test_each_test_has_an_empty_redis_database(
    redis_url: str, redis_client: redis.asyncio.Redis, prefix: str
) -> None:
    assert redis_url.endswith("/1")
    assert await redis_client.dbsize() == 0
    await redis_client.set(f"{prefix}:queue:id", 1)


async def test_the_keys_of_the_test_before_are_gone(redis_client: redis.asyncio.Redis) -> None:
    assert await redis_client.dbsize() == 0


async def test_each_test_has_a_postgres_database(empty_database_url: str) -> None:
    connection = await asyncpg.connect(empty_database_url)
    try:
        assert await connection.fetchval("SELECT current_database()") in empty_database_url
    finally:
        await connection.close()


async def test_each_test_has_a_migrated_database(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        tables = await connection.fetchval(
            "SELECT count(*) FROM pg_tables WHERE schemaname = 'campaign_worker'"
        )
        await connection.execute("CREATE TABLE mine ()")
    finally:
        await connection.close()
    assert tables > 3


async def test_the_tables_of_the_test_before_are_gone(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        assert await connection.fetchval("SELECT to_regclass('public.mine')") is None
    finally:
        await connection.close()


async def test_eventually_returns_the_value_it_waited_for() -> None:
    seen: list[int] = []

    def third_time() -> int:
        seen.append(1)
        return len(seen) if len(seen) >= 3 else 0

    assert await eventually(third_time) == 3


async def test_eventually_tells_what_it_saw_last() -> None:
    with pytest.raises(AssertionError, match="last: 0"):
        await eventually(lambda: asyncio.sleep(0, result=0), timeout_seconds=0.02)
