"""How soon an idle worker has a job: one that is added, one that falls due, one handed back."""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass
from typing import Any

import redis.asyncio

from bench.queue.stand import POLL_SECONDS, QUEUE, Stand
from campaign_worker.queue import Job, Producer, Worker
from shutdown import Deadline

SAMPLES = 20
DUE_MS = 150
_PATIENCE_SECONDS = 10.0
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "prioritized": {"priority": 3},
    "lifo": {"lifo": True},
}


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds: of `SAMPLES` times the median and the longest."""

    median_ms: float
    longest_ms: float

    @classmethod
    def of(cls, seconds: list[float]) -> Latency:
        """Sum up what was measured."""
        return cls(1000 * statistics.median(seconds), 1000 * max(seconds))


class _Rival:
    """An idle worker that notes when it starts a job."""

    def __init__(self, url: str) -> None:
        self.started: asyncio.Queue[float] = asyncio.Queue()
        self.worker = Worker(QUEUE, self._process, {"connection": url})

    async def _process(self, _job: Job, _token: str) -> None:
        self.started.put_nowait(time.time())

    async def next_start(self) -> float:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            return await self.started.get()


async def latencies(stand: Stand) -> dict[str, Latency]:
    """Measure all of them on an otherwise empty queue."""
    await stand.clear()
    client = redis.asyncio.Redis.from_url(stand.url, decode_responses=True)
    producer = Producer(client, QUEUE)
    rival = _Rival(stand.url)
    try:
        found = {
            "pick_up": await _added(client, producer, rival, 0),
            "due": await _added(client, producer, rival, DUE_MS),
        }
        for kind, opts in KINDS.items():
            times = [
                await _handed_back(stand.url, client, producer, rival, opts) for _ in range(SAMPLES)
            ]
            found[f"hand_back_{kind}"] = Latency.of(times)
    finally:
        await rival.worker.close()
        await client.aclose()
    return found


async def _added(
    client: redis.asyncio.Redis, producer: Producer, rival: _Rival, delay_ms: int
) -> Latency:
    late = []
    for _ in range(SAMPLES):
        await _until_blocked(client)
        added = time.time()
        await producer.add("noop", {}, delay_ms=delay_ms)
        late.append(await rival.next_start() - added - delay_ms / 1000)
    return Latency.of(late)


async def _handed_back(
    url: str,
    client: redis.asyncio.Redis,
    producer: Producer,
    rival: _Rival,
    opts: dict[str, Any],
) -> float:
    begun = asyncio.Event()

    async def hold(_job: Job, _token: str) -> None:
        begun.set()
        await asyncio.Event().wait()

    rival.worker.hold("bench")
    owner = Worker(QUEUE, hold, {"connection": url})
    await producer.add("noop", {}, opts=opts)
    await begun.wait()
    rival.worker.release("bench")
    await _until_blocked(client)
    owner.quiet()
    given_back = time.time()
    await owner.hand_back(Deadline.after(_PATIENCE_SECONDS))
    late = await rival.next_start() - given_back
    await owner.close()
    return late


async def _until_blocked(client: redis.asyncio.Redis) -> None:
    while True:
        if any("b" in one["flags"] for one in await client.client_list()):
            return
        await asyncio.sleep(POLL_SECONDS)
