"""Rate limits of workers and queues: how many jobs start in a window, and what a limit holds up."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from campaign_worker.queue import Job, JobSpec
from tests.integration.queue.conftest import Inspector, StartWorker
from tests.support import eventually

MINUTE_MS = 60_000


class Starts:
    """A processor that notes when it started which job; those that are to fail do so once."""

    def __init__(self, *failing: str) -> None:
        self.at: list[tuple[str, float]] = []
        self._failing = set(failing)

    @property
    def ids(self) -> list[str]:
        return [job_id for job_id, _ in self.at]

    async def __call__(self, job: Job, _token: str) -> None:
        self.at.append((job.id, time.monotonic()))
        if job.id in self._failing:
            self._failing.discard(job.id)
            raise ValueError("once")

    def most_within(self, seconds: float) -> int:
        """Return the greatest number of starts in any window of this length."""
        times = sorted(at for _, at in self.at)
        return max(sum(begin <= at < begin + seconds for at in times) for begin in times)


@pytest.fixture
def starts() -> Starts:
    return Starts()


@pytest.mark.parametrize("limit", [1, 3])
async def test_a_limit_is_one_for_all_workers_of_a_queue(
    queue: Inspector, start_worker: StartWorker, starts: Starts, limit: int
) -> None:
    jobs = limit * 3
    await queue.add(jobs)
    for _ in range(3):
        start_worker(starts, concurrency=5, limiter={"max": limit, "duration": 250})
    await eventually(lambda: queue.has(completed=jobs))
    # Two windows of the limiter may meet in one of ours, but not three.
    assert starts.most_within(0.2) <= 2 * limit
    first, last = starts.at[0][1], starts.at[-1][1]
    assert last - first > 0.2


@pytest.mark.parametrize("retries", [True, False])
async def test_a_retry_counts_like_a_start(
    queue: Inspector, start_worker: StartWorker, *, retries: bool
) -> None:
    starts = Starts("j0") if retries else Starts()
    await queue.add(2, attempts=2)
    start_worker(starts, limiter={"max": 2, "duration": MINUTE_MS})
    await eventually(lambda: len(starts.at) == 2)
    expected = {"waiting": 1, "completed": 1} if retries else {"completed": 2}
    await eventually(lambda: queue.has(**expected))


async def test_a_limit_changes_no_order(
    queue: Inspector, start_worker: StartWorker, starts: Starts
) -> None:
    specs = [JobSpec("mail", {}, f"p{n}", {"priority": n}) for n in (5, 1, 3)]
    await queue.producer.add_many([*specs, JobSpec("mail", {}, "plain")])
    start_worker(starts, limiter={"max": 1, "duration": 60})
    await eventually(lambda: len(starts.at) == 4)
    assert starts.ids == ["plain", "p1", "p3", "p5"]


async def test_a_limit_that_somebody_lifts_is_noticed_within_the_longest_wait(
    queue: Inspector, start_worker: StartWorker, starts: Starts
) -> None:
    limiter = {"max": 1, "duration": MINUTE_MS}
    start_worker(starts, limiter=limiter, maximumRateLimitDelay=100)
    await queue.add(3)
    for done in (1, 2, 3):
        await eventually(lambda done=done: _completed(queue, done))
        assert starts.ids == [f"j{number}" for number in range(done)]
        # What Queue.removeRateLimitKey does.
        await queue.client.delete(queue.keys.of("limiter"))


async def test_delayed_jobs_fall_due_while_a_limit_holds(
    queue: Inspector, start_worker: StartWorker, starts: Starts
) -> None:
    limiter = {"max": 1, "duration": MINUTE_MS}
    start_worker(starts, limiter=limiter, maximumRateLimitDelay=50)
    await queue.producer.add("mail", {}, job_id="first")
    await eventually(lambda: starts.ids == ["first"])
    await queue.producer.add("mail", {}, job_id="late", delay_ms=60)
    await eventually(lambda: queue.has(completed=1, waiting=1))
    assert starts.ids == ["first"]


async def test_a_queue_that_was_paused_while_limited_goes_on(
    queue: Inspector, start_worker: StartWorker, starts: Starts
) -> None:
    worker = start_worker(starts, limiter={"max": 1, "duration": 150})
    await queue.add(3)
    await eventually(lambda: starts.ids == ["j0"])
    await worker.pause()
    assert await queue.counts() == {"completed": 1, "waiting": 2}
    worker.resume()
    await eventually(lambda: starts.ids == ["j0", "j1", "j2"])


async def test_a_limit_set_while_jobs_run_lets_them_end_and_no_other_start(
    queue: Inspector, start_worker: StartWorker
) -> None:
    gate = asyncio.Event()

    async def process(job: Job, token: str) -> None:
        await gate.wait()

    limiter = {"max": 100, "duration": 1000}
    worker: Any = start_worker(process, concurrency=2, limiter=limiter)
    await queue.add(4)
    await eventually(lambda: worker.active_jobs == 2)
    await worker.rate_limit(MINUTE_MS)
    gate.set()
    await eventually(lambda: queue.has(completed=2, waiting=2))
    await eventually(lambda: worker._engine.intake.limited)
    assert worker.active_jobs == 0


async def test_a_job_that_is_to_fail_takes_no_place_of_the_limit(
    queue: Inspector, start_worker: StartWorker, starts: Starts
) -> None:
    await queue.add(3)
    await queue.client.hset(queue.keys.job("j0"), "defa", "child bull:other:1 failed")
    start_worker(starts, limiter={"max": 2, "duration": MINUTE_MS})
    await eventually(lambda: queue.has(failed=1, completed=2))
    assert starts.ids == ["j1", "j2"]


async def _completed(queue: Inspector, count: int) -> bool:
    return (await queue.counts()).get("completed") == count
