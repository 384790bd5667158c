"""`jobTimeout`: a job that takes too long is told, then cancelled, and has spent an attempt."""

from __future__ import annotations

import asyncio
import time

import pytest

from campaign_worker.errors import JobTimedOut, SettingsError
from campaign_worker.queue import AbortReason, AbortSignal, HandedBack, Job, Worker, WorkerOptions
from shutdown import Deadline
from tests.integration.queue.conftest import Events, Inspector, StartWorker
from tests.support import eventually

LONG_MS = 60_000


async def _for_ever() -> None:
    await asyncio.Event().wait()


async def test_a_job_that_takes_too_long_fails_by_its_own_error_and_is_tried_again(
    queue: Inspector, start_worker: StartWorker
) -> None:
    reasons: list[AbortReason | None] = []

    async def process(job: Job, _token: str, signal: AbortSignal) -> str:
        if job.attempts_made:
            return "in time"
        try:
            await _for_ever()
        finally:
            reasons.append(signal.reason)
        return "never"

    worker = start_worker(process, jobTimeout=50)
    events = Events(worker, "failed", "completed")
    await queue.add(1, attempts=2, backoff=10)
    await eventually(lambda: events.of("completed"))
    ((_, error, _),) = events.of("failed")
    assert isinstance(error, JobTimedOut)
    assert (error.job_id, error.limit_ms) == ("j0", 50)
    assert reasons == [AbortReason.TIMEOUT]
    await worker.close()
    job = await queue.job("j0")
    assert (job["atm"], job.get("stc"), job["returnvalue"]) == ("2", None, '"in time"')


async def test_a_job_that_is_told_of_its_timeout_may_still_end_by_itself(
    queue: Inspector, start_worker: StartWorker
) -> None:
    async def process(_job: Job, _token: str, signal: AbortSignal) -> str:
        return (await signal.wait()).value

    worker = start_worker(process, jobTimeout=400)
    await queue.add()
    await eventually(lambda: worker.active_jobs == 0 and worker.last_claim_monotonic)
    await eventually(lambda: queue.has(completed=1))
    assert (await queue.job("j0"))["returnvalue"] == '"timeout"'


async def test_a_job_that_gives_itself_back_when_its_time_is_over_has_spent_an_attempt(
    queue: Inspector, start_worker: StartWorker
) -> None:
    """Else it would come back at once, and for ever."""

    async def process(_job: Job, _token: str, signal: AbortSignal) -> HandedBack:
        return HandedBack((await signal.wait()).value)

    start_worker(process, jobTimeout=50)
    await queue.add()
    await eventually(lambda: queue.has(failed=1))
    job = await queue.job("j0")
    assert (job["atm"], job["failedReason"]) == ("1", "job j0 took longer than 50 ms")


async def test_a_stop_before_the_end_of_its_time_hands_a_job_back(
    queue: Inspector, start_worker: StartWorker
) -> None:
    running = asyncio.Event()

    async def process(_job: Job, _token: str) -> None:
        running.set()
        await _for_ever()

    worker = start_worker(process, jobTimeout=LONG_MS)
    await queue.add()
    await running.wait()
    await worker.close(deadline=Deadline.after(0.2))
    assert await queue.counts() == {"waiting": 1}
    assert "atm" not in await queue.job("j0")


async def test_a_timeout_of_the_processors_own_is_its_own_error(
    queue: Inspector, start_worker: StartWorker
) -> None:
    async def process(_job: Job, _token: str) -> None:
        async with asyncio.timeout(0.01):
            await _for_ever()

    worker = start_worker(process, jobTimeout=LONG_MS)
    events = Events(worker, "failed")
    await queue.add()
    await eventually(lambda: events.of("failed"))
    assert type(events.of("failed")[0][1]) is TimeoutError


async def test_a_job_that_was_cancelled_and_goes_on_keeps_its_lock(
    queue: Inspector, start_worker: StartWorker
) -> None:
    """What a renewal says counts after an abort too."""
    seen: list[AbortReason | None] = []

    async def process(_job: Job, _token: str, signal: AbortSignal) -> str:
        await signal.wait()
        later = time.monotonic() + 1.5 * 0.4
        await eventually(lambda: time.monotonic() > later)
        seen.append(signal.reason)
        return "done"

    worker = start_worker(process, lockDuration=400)
    await queue.add()
    await eventually(lambda: worker.active_jobs == 1)
    assert worker.cancel_job("j0")
    await eventually(lambda: queue.has(completed=1))
    assert seen == [AbortReason.CANCELLED]


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "60"])
def test_a_job_timeout_is_a_whole_number_of_milliseconds(value: object) -> None:
    with pytest.raises(SettingsError, match="jobTimeout"):
        WorkerOptions.parse({"jobTimeout": value})


def test_no_time_limit_wraps_no_processor(redis_url: str) -> None:
    async def process(_job: Job, _token: str, _signal: AbortSignal) -> None:
        """Never called."""

    opts = {"connection": redis_url, "autorun": False}
    assert Worker("mails", process, opts)._engine.slots._process is process
    limited = Worker("mails", process, {**opts, "jobTimeout": 5})
    assert limited._engine.slots._process is not process
