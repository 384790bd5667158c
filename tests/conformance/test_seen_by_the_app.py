"""What an app of each bullmq sees of our workers, and what it gets back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis.asyncio

from campaign_worker.queue import Job, Worker
from tests.conformance.harness import QUEUE, App, job
from tests.support import TcpProxy, eventually

pytestmark = pytest.mark.node

NAMED = pytest.mark.parametrize("bullmq", [5, 6], indirect=True, ids=["bullmq-5", "bullmq-6"])


async def process(job: Job, _token: str) -> Any:
    if job.data.get("fails") and job.attempts_made == 0:
        raise ValueError('grüße aus "Köln"')
    return job.data


@contextlib.asynccontextmanager
async def working(url: str, prefix: str, queue: str = QUEUE, **opts: Any) -> AsyncIterator[Worker]:
    worker = Worker(queue, process, {"connection": url, "prefix": prefix, **opts})
    try:
        yield worker
    finally:
        await worker.close()


async def names(app: App, queue: str = QUEUE) -> list[str]:
    """Return the names of the workers that Node lists; "" for one without."""
    workers = await app.call("workers", queue)
    return sorted(one["rawname"].partition(":w:")[2] for one in workers)


async def lists(app: App, *expected: str) -> bool:
    seen = await names(app)
    assert seen == sorted(expected), seen
    return True


@NAMED
@pytest.mark.feature("`Queue.getWorkers`, `processedBy`, after a reconnect too")
async def test_each_worker_is_listed_once_by_the_queue_that_it_serves(
    app: App, redis_url: str, prefix: str
) -> None:
    async with (
        working(redis_url, prefix, name="anna", concurrency=5),
        working(redis_url, prefix, name="bert"),
        working(redis_url, prefix),
        working(redis_url, prefix, queue=f"{QUEUE}-2", name="carl"),
    ):
        await eventually(lambda: lists(app, "", "anna", "bert"))
        assert await names(app, f"{QUEUE}-2") == ["carl"]
    assert await names(app) == []


@NAMED
@pytest.mark.feature("`Queue.getWorkers`, `processedBy`, after a reconnect too")
async def test_a_worker_whose_connections_were_cut_is_listed_again(
    app: App, redis_url: str, prefix: str
) -> None:
    async with TcpProxy(redis_url) as proxy, working(proxy.url, prefix, name="anna") as worker:
        await eventually(lambda: lists(app, "anna"))
        proxy.refuse()
        await eventually(lambda: lists(app))
        proxy.pass_all()
        await eventually(lambda: lists(app, "anna"))
        (job_id,) = await app.add(job({}))
        assert (await app.ended(job_id))["processedBy"] == "anna"
        await worker.close()


@NAMED
@pytest.mark.feature("`Queue.getWorkers`, `processedBy`, after a reconnect too")
async def test_a_worker_is_listed_again_when_somebody_ends_its_named_connection(
    app: App, redis_client: redis.asyncio.Redis, redis_url: str, prefix: str
) -> None:
    client: Any = redis_client
    async with working(redis_url, prefix, name="anna"):
        await eventually(lambda: lists(app, "anna"))
        (before,) = await app.call("workers")
        assert await client.client_kill_filter(_id=before["id"]) == 1
        await eventually(lambda: lists(app, "anna"))
        (after,) = await app.call("workers")
    assert after["id"] != before["id"]


@pytest.mark.feature("`Queue.getWorkers`, `processedBy`, after a reconnect too")
async def test_who_had_a_job_last_is_who_processed_it(
    app: App, redis_url: str, prefix: str
) -> None:
    async with working(redis_url, prefix, name="anna"):
        (job_id,) = await app.add(job({"fails": True}, attempts=2, backoff=400))
        await app.settled(delayed=1)
        first = await app.job(job_id)
    async with working(redis_url, prefix, name="bert"):
        second = await app.ended(job_id)
    expected = (None, None) if app.node.major == 4 else ("anna", "bert")
    assert (first["processedBy"], second["processedBy"]) == expected


@pytest.mark.feature("telemetry metadata of the app")
async def test_the_options_of_a_job_are_as_the_app_wrote_them(
    app: App, redis_client: redis.asyncio.Redis, redis_url: str, prefix: str
) -> None:
    client: Any = redis_client
    given = {
        "attempts": 2,
        "backoff": {"type": "exponential", "delay": 10},
        "keepLogs": 7,
        "sizeLimit": 9000,
        "telemetry": {"metadata": '{"traceparent":"00-4bf9-00f0-01"}', "omitContext": True},
    }
    (job_id,) = await app.add(job({"fails": True}, **given))
    key = f"{prefix}:{QUEUE}:{job_id}"
    written = await client.hget(key, "opts")
    options = await app.call("options", job_id)
    async with working(redis_url, prefix, name="anna"):
        assert (await app.ended(job_id))["stacktraces"] == 1
    assert await client.hget(key, "opts") == written
    assert await app.call("options", job_id) == options
    assert options["telemetry"] == given["telemetry"]
    assert ("tm" in written) is (app.node.major > 4)


@pytest.mark.feature("`QueueEvents`, `waitUntilFinished`")
async def test_an_app_that_waits_for_a_job_is_told_its_result_or_its_reason(
    app: App, redis_url: str, prefix: str
) -> None:
    await app.call("watch")
    result = {"sent": True, "to": ["größer", None, 1.5]}
    async with working(redis_url, prefix) as worker:
        worker.hold("until the app waits")
        good, bad = await app.add(job(result), job({"fails": True}))
        waiting = asyncio.gather(app.call("wait", good), app.call("wait", bad))
        await app.settled(waiting=2)
        worker.release("until the app waits")
        assert await waiting == [result, {"failed": 'grüße aus "Köln"'}]
        assert await app.call("wait", good) == result
