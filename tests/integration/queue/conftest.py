"""A queue of the test's own, workers that are closed afterwards, and what Redis says of jobs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import redis.asyncio

from campaign_worker.queue import Job, Producer, Worker
from campaign_worker.queue.keys import QueueKeys

QUEUE = "mails"


class Events:
    """Collects a worker's local events in order."""

    def __init__(self, worker: Worker, *names: str) -> None:
        self.seen: list[tuple[str, tuple[Any, ...]]] = []
        for name in names:
            worker.on(name, lambda *arguments, name=name: self.seen.append((name, arguments)))

    def of(self, name: str) -> list[tuple[Any, ...]]:
        return [arguments for seen, arguments in self.seen if seen == name]


class Ran:
    """A processor that notes which jobs it had."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    async def __call__(self, job: Job, _token: str) -> None:
        self.ids.append(job.id)


class Inspector:
    """Reads a queue as another process would."""

    def __init__(self, client: redis.asyncio.Redis, prefix: str) -> None:
        self.client = client
        self.keys = QueueKeys(QUEUE, prefix)
        self.producer = Producer(client, QUEUE, prefix)

    async def job(self, job_id: str) -> dict[str, str]:
        return await self.client.hgetall(self.keys.job(job_id))

    async def lock(self, job_id: str) -> str | None:
        return await self.client.get(self.keys.lock(job_id))

    async def counts(self) -> dict[str, int]:
        return {state: n for state, n in (await self.producer.counts()).items() if n}

    async def has(self, **states: int) -> bool:
        """Assert that so many jobs are in these states, and none in any other."""
        assert await self.counts() == states
        return True

    async def blocked(self) -> int:
        """Count the clients that wait in a blocking command."""
        return sum("b" in client["flags"] for client in await self.client.client_list())

    async def add(self, count: int = 1, **opts: Any) -> list[str]:
        return [
            await self.producer.add("mail", {"i": i}, job_id=f"j{i}", opts=opts)
            for i in range(count)
        ]

    async def events(self) -> list[dict[str, str]]:
        return [fields for _, fields in await self.client.xrange(self.keys.of("events"))]


@pytest.fixture
async def queue(redis_client: redis.asyncio.Redis, prefix: str) -> Inspector:
    return Inspector(redis_client, prefix)


StartWorker = Callable[..., Worker]


@pytest.fixture
async def start_worker(redis_url: str, prefix: str) -> AsyncIterator[StartWorker]:
    """Return a maker of running workers (processor, then options by Node's names)."""
    workers: list[Worker] = []

    def start(processor: Any, **opts: Any) -> Worker:
        listener = opts.pop("listener", None)
        opts = {"connection": redis_url, "prefix": prefix, **opts}
        worker = Worker(QUEUE, processor, opts, listener=listener)
        workers.append(worker)
        return worker

    yield start
    await asyncio.gather(*(worker.close(force=True) for worker in workers))


@pytest.fixture
def ran() -> Ran:
    return Ran()
