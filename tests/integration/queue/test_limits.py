"""How much may run at a time, set by the queue, a worker or a job, and changed while they run."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from campaign_worker.queue import Job, RateLimitError, Worker
from tests.integration.queue.conftest import Inspector, StartWorker
from tests.support import eventually


class Gate:
    """A processor that lets its jobs go one at a time."""

    def __init__(self) -> None:
        self.active = 0
        self.most = 0
        self._go = asyncio.Semaphore(0)

    def release(self, jobs: int = 1) -> None:
        for _ in range(jobs):
            self._go.release()

    async def process(self, _job: Job, _token: str) -> None:
        self.active += 1
        self.most = max(self.most, self.active)
        await self._go.acquire()
        self.active -= 1


async def test_the_queues_concurrency_holds_for_all_workers_and_may_change(
    queue: Inspector, start_worker: StartWorker
) -> None:
    gate = Gate()
    meta = queue.keys.of("meta")
    await queue.client.hset(meta, "concurrency", 1)
    for _ in range(2):
        start_worker(gate.process, concurrency=4)
    await queue.add(12)
    await eventually(lambda: gate.active == 1)
    gate.release(2)
    await eventually(lambda: _completed(queue, 2))
    assert gate.most == 1

    await queue.client.hset(meta, "concurrency", 3)
    gate.release()
    await eventually(lambda: gate.active == 3)
    gate.release(2)
    await eventually(lambda: _completed(queue, 5))
    assert gate.most == 3

    await queue.client.hset(meta, "concurrency", 1)
    gate.release(2)
    await eventually(lambda: _completed(queue, 7))
    gate.most = gate.active
    assert gate.active == 1

    await queue.client.hdel(meta, "concurrency")
    gate.release()
    await eventually(lambda: gate.active == 4)
    gate.release(4)
    await eventually(lambda: _completed(queue, 12))


async def test_a_workers_concurrency_may_change(
    queue: Inspector, start_worker: StartWorker
) -> None:
    gate = Gate()
    worker = start_worker(gate.process)
    await queue.add(9)
    await eventually(lambda: gate.active == 1)
    worker.concurrency = 3
    await eventually(lambda: gate.active == 3)
    worker.concurrency = 1
    gate.release(2)
    await eventually(lambda: _completed(queue, 2))
    assert gate.active == 1
    gate.release(7)
    await eventually(lambda: _completed(queue, 9))
    assert gate.most == 3


@pytest.mark.parametrize(
    "error",
    [Worker.RateLimitError(), RateLimitError("slow down"), OSError("bullmq:rateLimitExceeded")],
)
async def test_a_job_that_meets_a_limit_goes_back_and_the_limit_holds_for_all(
    queue: Inspector, start_worker: StartWorker, error: Exception
) -> None:
    limited_at = 0.0

    async def process(job: Job, token: str) -> None:
        nonlocal limited_at
        if job.attempts_started == 1 and not limited_at:
            await worker.rate_limit(200)
            limited_at = time.time()
            raise error

    # As in Node, only a worker with a limiter of its own looks whether there is a limit.
    limiter = {"max": 100, "duration": 1000}
    worker = start_worker(process, limiter=limiter)
    start_worker(process, limiter=limiter)
    await queue.producer.add("mail", {}, job_id="a")
    await eventually(lambda: limited_at > 0)
    await queue.producer.add("mail", {}, job_id="b")
    await eventually(lambda: _completed(queue, 2))
    for job_id in ("a", "b"):
        job = await queue.job(job_id)
        assert int(job["processedOn"]) >= limited_at * 1000 + 150, job_id
        assert job["atm"] == "1"
    assert (await queue.job("a"))["ats"] == "2"


async def test_the_locks_of_jobs_can_be_extended_by_hand(
    queue: Inspector, start_worker: StartWorker
) -> None:
    worker: Any = start_worker(None, lockDuration=1000)
    await queue.add(2)
    jobs = [await worker.get_next_job(f"t:{n}") for n in (1, 2)]
    ids = [job.id for job in jobs]
    assert await worker.extendJobLocks(ids, ["t:1", "nobody's"], 60_000) == [ids[1]]
    assert await queue.client.pttl(queue.keys.lock(ids[0])) > 1000
    assert await queue.client.pttl(queue.keys.lock(ids[1])) <= 1000


async def _completed(queue: Inspector, count: int) -> bool:
    return (await queue.counts()).get("completed") == count
