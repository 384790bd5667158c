"""The memory of slow jobs: longest wins, whoever writes; a Redis that is away costs nothing."""

from __future__ import annotations

import redis.asyncio

from campaign_worker.slowest import SlowestJobs, slowest_seconds
from metrics import JobClaimed, JobEnded
from shutdown.testing import stress
from tests.support import TcpProxy, eventually


def ended(seconds: float, queue: str = "campaign") -> JobEnded:
    return JobEnded(queue, "send-email", "completed", seconds)


async def test_only_a_longer_job_replaces_a_number_whichever_replica_writes_it(
    redis_client: redis.asyncio.Redis, prefix: str
) -> None:
    one, other = SlowestJobs(redis_client, prefix), SlowestJobs(redis_client, prefix)
    for service, seconds in ((one, 3.0), (other, 2.0), (one, 1.0), (other, 4.5)):
        service.on_event(JobClaimed("campaign", "send-email"))
        service.on_event(ended(seconds))
        service.on_event(ended(seconds / 2, "news"))
        await service.write()
    assert await slowest_seconds(redis_client, prefix) == {"campaign": 4.5, "news": 2.25}
    (key,) = await redis_client.keys(f"{prefix}:*")
    assert 6 * 86400 < await redis_client.ttl(key) <= 7 * 86400


async def test_what_was_not_written_yet_is_written_at_stop(
    redis_client: redis.asyncio.Redis, prefix: str
) -> None:
    service = SlowestJobs(redis_client, prefix)
    await service.start()
    service.on_event(ended(7.0))
    await service.stop()
    assert await slowest_seconds(redis_client, prefix) == {"campaign": 7.0}


async def test_a_silent_redis_does_not_hold_up_the_stop_and_nothing_is_forgotten(
    redis_url: str, redis_client: redis.asyncio.Redis, prefix: str
) -> None:
    async with TcpProxy(redis_url) as proxy:
        client = redis.asyncio.Redis.from_url(proxy.url)
        service = SlowestJobs(client, prefix)
        await service.start()
        service.on_event(ended(7.0))
        proxy.hold_requests()
        await service.stop()
        assert await slowest_seconds(redis_client, prefix) == {}
        proxy.pass_all()
        await eventually(lambda: wrote(service))
        assert await slowest_seconds(redis_client, prefix) == {"campaign": 7.0}
        await client.aclose()


async def test_it_passes_the_stress_test(redis_client: redis.asyncio.Redis, prefix: str) -> None:
    await stress(lambda: SlowestJobs(redis_client, prefix))


async def wrote(service: SlowestJobs) -> bool:
    await service.write()
    return True
