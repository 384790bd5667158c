"""The send rate that all replicas share, on a real Redis and its clock."""

from __future__ import annotations

import asyncio

import pytest
import redis.asyncio as aioredis

from campaign_worker.errors import RedisAway
from campaign_worker.mail.pace import FURTHEST_SECONDS, SharedPace, Unpaced
from campaign_worker.queue import ConnectionSpec
from tests.support import free_port


async def test_without_a_rate_every_place_is_now() -> None:
    assert await Unpaced().reserve() == 0.0


async def test_replicas_share_one_stream_of_evenly_spaced_places(
    redis_client: aioredis.Redis, prefix: str
) -> None:
    key = f"{prefix}:rate"
    seconds, microseconds = await redis_client.time()
    replicas = [SharedPace(redis_client, key, per_second=10) for _ in range(3)]
    waits = await asyncio.gather(*(replicas[n % 3].reserve() for n in range(30)))
    assert all(0.0 <= wait <= 2.9 for wait in waits)
    # However long the calls took: thirty places are gone, a tenth of a second each.
    following = int(await redis_client.get(key) or 0)
    assert following - (seconds * 1_000_000 + microseconds) >= 3_000_000


async def test_a_place_that_is_too_far_away_is_told_but_not_taken(
    redis_client: aioredis.Redis, prefix: str
) -> None:
    pace = SharedPace(redis_client, f"{prefix}:rate", per_second=0.5)
    near = [await pace.reserve() for _ in range(3)]
    assert near[-1] <= FURTHEST_SECONDS
    far = [await pace.reserve() for _ in range(3)]
    # Nobody took the place, so it only comes nearer.
    assert far == sorted(far, reverse=True)
    assert all(FURTHEST_SECONDS < wait <= 6.0 for wait in far)


async def test_places_that_were_given_before_redis_clock_was_set_back_keep_nobody_waiting(
    redis_client: aioredis.Redis, prefix: str
) -> None:
    key = f"{prefix}:rate"
    seconds, _ = await redis_client.time()
    await redis_client.set(key, (seconds + 3600) * 1_000_000)
    pace = SharedPace(redis_client, key, per_second=10)
    assert [await pace.reserve() <= wait for wait in (0.0, 0.1)] == [True, True]
    assert 0 < await redis_client.pttl(key) <= 1200


async def test_a_stream_that_rests_is_forgotten(redis_client: aioredis.Redis, prefix: str) -> None:
    await SharedPace(redis_client, f"{prefix}:rate", per_second=1000).reserve()
    assert 0 < await redis_client.pttl(f"{prefix}:rate") <= 1001


async def test_a_redis_that_is_away_is_said_so(prefix: str) -> None:
    client = ConnectionSpec(port=free_port()).client()
    with pytest.raises(RedisAway):
        await SharedPace(client, f"{prefix}:rate", per_second=1).reserve()
    await client.aclose()
