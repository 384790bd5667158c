"""close() and pause() while jobs end in every way, and while Redis or a limit is in the way."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from campaign_worker.queue import (
    Deferred,
    DelayedError,
    Failed,
    Job,
    UnrecoverableError,
    WaitingError,
    Worker,
)
from tests.integration.queue.conftest import QUEUE, Events, Inspector, StartWorker
from tests.support import TcpProxy, eventually, free_port

QUICK_SECONDS = 3.0
HOUR_MS = 3_600_000


class Held:
    """A processor that waits to be let go and then ends the job as `ends` does."""

    def __init__(self, ends: Callable[[Job, str], Awaitable[Any]]) -> None:
        self.running = asyncio.Event()
        self.go = asyncio.Event()
        self._ends = ends

    async def __call__(self, job: Job, token: str) -> Any:
        self.running.set()
        await self.go.wait()
        return await self._ends(job, token)


async def throws(_job: Job, _token: str) -> None:
    raise ValueError("while closing")


async def gives_up(_job: Job, _token: str) -> None:
    raise UnrecoverableError("while closing")


async def moves_to_delayed(job: Job, token: str) -> None:
    await job.move_to_delayed(int(time.time() * 1000) + HOUR_MS, token)
    raise DelayedError


async def moves_to_wait(job: Job, token: str) -> None:
    await job.move_to_wait(token)
    raise WaitingError


async def defers(_job: Job, _token: str) -> Deferred:
    return Deferred(int(time.time() * 1000) + HOUR_MS)


async def fails(_job: Job, _token: str) -> Failed:
    return Failed(ValueError("while closing"), delay_ms=HOUR_MS)


async def returns(_job: Job, _token: str) -> str:
    return "while closing"


ENDS: list[tuple[Callable[[Job, str], Awaitable[Any]], dict[str, Any], str]] = [
    (returns, {}, "completed"),
    (returns, {"removeOnComplete": True}, "nowhere"),
    (throws, {}, "failed"),
    (throws, {"attempts": 2}, "waiting"),
    (throws, {"attempts": 2, "priority": 3}, "prioritized"),
    (throws, {"attempts": 2, "backoff": HOUR_MS}, "delayed"),
    (gives_up, {"attempts": 9}, "failed"),
    (moves_to_delayed, {}, "delayed"),
    (moves_to_wait, {}, "waiting"),
    (defers, {}, "delayed"),
    (fails, {"attempts": 2}, "delayed"),
]


@pytest.mark.parametrize("how", ["close", "pause"])
@pytest.mark.parametrize(("ends", "opts", "state"), ENDS)
async def test_a_job_may_end_in_any_way_while_its_worker_stops(
    queue: Inspector,
    start_worker: StartWorker,
    how: str,
    ends: Callable[[Job, str], Awaitable[Any]],
    opts: dict[str, Any],
    state: str,
) -> None:
    held = Held(ends)
    worker = start_worker(held)
    await queue.add(1, **opts)
    await asyncio.wait_for(held.running.wait(), QUICK_SECONDS)
    stopping = asyncio.create_task(getattr(worker, how)())
    await eventually(lambda: not worker._engine.intake.open)
    held.go.set()
    await asyncio.wait_for(stopping, QUICK_SECONDS)
    assert await queue.counts() == ({} if state == "nowhere" else {state: 1})
    assert worker.active_jobs == 0
    assert await queue.lock("j0") is None


async def test_several_jobs_that_end_while_closing_end_as_they_would(
    queue: Inspector, start_worker: StartWorker
) -> None:
    gate = asyncio.Event()

    async def process(job: Job, token: str) -> int:
        await gate.wait()
        if job.data["i"] % 2:
            raise ValueError("odd")
        return job.data["i"]

    worker = start_worker(process, concurrency=6)
    events = Events(worker, "completed", "failed", "closing", "closed")
    await queue.add(6)
    await eventually(lambda: worker.active_jobs == 6)
    closing = asyncio.create_task(worker.close())
    await eventually(lambda: events.of("closing"))
    gate.set()
    await closing
    assert await queue.counts() == {"completed": 3, "failed": 3}
    assert [name for name, _ in events.seen[-1:]] == ["closed"]
    assert len(events.of("completed")) == len(events.of("failed")) == 3


async def test_a_limit_keeps_no_worker_from_closing(
    queue: Inspector, start_worker: StartWorker
) -> None:
    async def process(job: Job, token: str) -> None:
        return None

    worker = start_worker(process, limiter={"max": 1, "duration": HOUR_MS})
    await queue.add(3)
    await eventually(lambda: worker._engine.intake.limited)
    await asyncio.wait_for(worker.close(), QUICK_SECONDS)
    assert await queue.counts() == {"completed": 1, "waiting": 2}


async def test_a_forced_close_hurries_one_that_waits_for_a_claim(
    queue: Inspector, start_worker: StartWorker, redis_url: str
) -> None:
    async def process(_job: Job, _token: str) -> None:
        return None

    async with TcpProxy(redis_url) as proxy:
        worker = start_worker(process, connection=proxy.url)
        await eventually(lambda: worker.last_claim_monotonic)
        worker.hold("test")
        await queue.add(1)
        proxy.drop_replies()
        worker.release("test")
        await eventually(lambda: queue.has(active=1))
        began = time.monotonic()
        patient = asyncio.create_task(worker.close())
        await eventually(lambda: worker._engine.intake.quiet)
        await worker.close(force=True)
        await patient
        # Its reply would be waited for as long as for any, five seconds.
        assert time.monotonic() - began < 4


@pytest.mark.parametrize("force", [False, True])
async def test_a_worker_that_never_reached_redis_closes(prefix: str, *, force: bool) -> None:
    async def process(job: Job, token: str) -> None:
        return None

    nobody = f"redis://127.0.0.1:{free_port()}/0"
    worker = Worker(QUEUE, process, {"connection": nobody, "prefix": prefix})
    events = Events(worker, "error")
    await eventually(lambda: events.of("error"))
    await asyncio.wait_for(worker.close(force=force), QUICK_SECONDS)
    assert not worker.is_running()


async def test_a_worker_closes_while_it_is_being_refused(
    queue: Inspector, start_worker: StartWorker, redis_url: str
) -> None:
    async def process(job: Job, token: str) -> None:
        return None

    async with TcpProxy(redis_url) as proxy:
        worker = start_worker(process, connection=proxy.url)
        events = Events(worker, "error")
        await worker.wait_until_ready()
        proxy.refuse()
        await eventually(lambda: events.of("error"))
        await asyncio.wait_for(worker.close(), QUICK_SECONDS)
    assert not worker.is_running()


@pytest.mark.parametrize("reset", [True, False])
async def test_jobs_added_before_and_after_a_cut_all_run_once(
    queue: Inspector, start_worker: StartWorker, redis_url: str, *, reset: bool
) -> None:
    ran: list[str] = []

    async def process(job: Job, token: str) -> None:
        ran.append(job.id)

    async with TcpProxy(redis_url) as proxy:
        worker = start_worker(process, connection=proxy.url)
        await queue.producer.add("mail", {}, job_id="before")
        await eventually(lambda: ran == ["before"])
        for number in range(3):
            proxy.cut(reset=reset)
            await queue.producer.add("mail", {}, job_id=f"after{number}")
            await eventually(lambda number=number: len(ran) == number + 2)
        await eventually(lambda: queue.has(completed=4))
        await worker.close()
    assert ran == ["before", "after0", "after1", "after2"]
    assert [(await queue.job(job_id)).get("stc") for job_id in ran] == [None] * 4


async def test_a_job_that_fails_for_good_while_closing_keeps_its_trace(
    queue: Inspector, start_worker: StartWorker
) -> None:
    held = Held(throws)
    worker = start_worker(held)
    await queue.add()
    await asyncio.wait_for(held.running.wait(), QUICK_SECONDS)
    closing = asyncio.create_task(worker.close())
    held.go.set()
    await closing
    job = await queue.job("j0")
    (trace,) = json.loads(job["stacktrace"])
    assert (job["failedReason"], job["atm"]) == ("while closing", "1")
    assert trace.splitlines()[-1] == "ValueError: while closing"


async def test_after_pausing_without_waiting_a_worker_resumes_beside_its_old_jobs(
    queue: Inspector, start_worker: StartWorker
) -> None:
    held = Held(returns)
    worker = start_worker(held, concurrency=2)
    await queue.add()
    await asyncio.wait_for(held.running.wait(), QUICK_SECONDS)
    await worker.pause(do_not_wait_active=True)
    await queue.producer.add("mail", {}, job_id="later")
    assert worker.active_jobs == 1
    worker.resume()
    await eventually(lambda: worker.active_jobs == 2)
    held.go.set()
    await eventually(lambda: queue.has(completed=2))
