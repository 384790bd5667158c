"""The events of the Worker object: names, arguments and order, as Node's Worker emits them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from campaign_worker.queue import Job, Worker
from campaign_worker.queue.events import EVENTS
from tests.fixtures.node import NodeBullMQ, NodeProcess, connection_of
from tests.integration.queue.conftest import QUEUE, Inspector
from tests.support import eventually

pytestmark = pytest.mark.node

NODE_WORKER = Path(__file__).parent / "node" / "local_events.cjs"
OPTIONS = {"lockDuration": 400, "stalledInterval": 60_000}
JOBS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "lost": ({"value": 1}, {}),
    "plain": ({"value": {"n": 1}}, {}),
    "nothing": ({}, {}),
    "progress": ({"progress": {"done": 50}, "value": "x"}, {}),
    "retried": ({"fails": True}, {"attempts": 2}),
    "given-up": ({"fails": True}, {}),
    "long": ({"seconds": 0.5}, {"priority": 9}),
}
Line = dict[str, Any]


async def add(client: redis.asyncio.Redis, prefix: str) -> None:
    queue = Inspector(client, prefix)
    for job_id, (data, opts) in JOBS.items():
        await queue.producer.add("mail", data, job_id=job_id, opts=opts)
        if job_id == "lost":
            await client.rpoplpush(queue.keys.of("wait"), queue.keys.of("active"))
            await client.sadd(queue.keys.of("stalled"), job_id)


async def of_node(node: NodeBullMQ, url: str, prefix: str) -> list[Line]:
    data = {"connection": connection_of(url), "prefix": prefix, "options": OPTIONS}
    said: list[Line] = []
    async with await node.start(NODE_WORKER, data) as process:
        reading = asyncio.create_task(read(process, said))

        async def told(event: str) -> None:
            await eventually(lambda: event in names(said), says=event)

        await told("ready")
        await process.write_line("run")
        await told("drained")
        for what, event in (("pause", "paused"), ("resume", "resumed"), ("close", "closed")):
            await process.write_line(what)
            await told(event)
        await reading
    return said


async def read(process: NodeProcess, said: list[Line]) -> None:
    async for line in process.lines():
        said.append(line)  # noqa: PERF401 - readers look at it meanwhile


async def of_ours(url: str, prefix: str) -> list[Line]:
    async def process(job: Job, token: str) -> Any:
        if job.data.get("progress"):
            await job.update_progress(job.data["progress"])
        if job.data.get("seconds"):
            await asyncio.sleep(job.data["seconds"])
        if job.data.get("fails") and job.attempts_made == 0:
            raise ValueError("once")
        return job.data.get("value")

    said: list[Line] = []
    worker = Worker(QUEUE, process, {**OPTIONS, "connection": url, "prefix": prefix})
    for name in EVENTS:
        worker.on(name, lambda *a, name=name: said.append({"event": name, "args": plain(a)}))
    await eventually(lambda: "drained" in names(said))
    await worker.pause()
    worker.resume()
    await worker.close()
    return said


def plain(arguments: tuple[Any, ...]) -> list[Any]:
    def one(value: Any) -> Any:
        if isinstance(value, BaseException):
            return {"error": str(value)}
        if isinstance(value, Job):
            return {"job": value.id, "attemptsMade": value.attempts_made}
        return value

    return [one(value) for value in arguments]


def names(said: list[Line]) -> list[str]:
    return [line["event"] for line in said]


def comparable(said: list[Line]) -> tuple[list[Line], list[Line]]:
    """Return the story of the jobs, and once each what comes as often as time allows."""
    often = {"locksRenewed", "drained"}
    story = [line for line in said if line["event"] not in often]
    return story, [next(line for line in said if line["event"] == name) for name in sorted(often)]


@pytest.mark.feature("events of the Worker object")
async def test_our_events_are_those_of_node(
    node_bullmq: Callable[[int], NodeBullMQ],
    redis_client: redis.asyncio.Redis,
    redis_url: str,
    prefix: str,
) -> None:
    await add(redis_client, prefix)
    by_node = await of_node(node_bullmq(6), redis_url, prefix)
    await redis_client.flushdb()
    await add(redis_client, prefix)
    by_us = await of_ours(redis_url, prefix)
    assert comparable(by_us) == comparable(by_node)
    assert {line["event"] for line in by_node} == set(EVENTS) - {"error", "lockRenewalFailed"}
