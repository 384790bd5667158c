"""Retries: what a strategy is told, in which order retried jobs run, and which ones end."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from campaign_worker.errors import JobRefused
from campaign_worker.queue import Job, JobSpec
from tests.integration.queue.conftest import Events, Inspector, StartWorker
from tests.support import eventually


class TemporaryError(Exception):
    """What a strategy may look for."""


async def fails(job: Job, _token: str) -> None:
    raise TemporaryError(f"no {job.attempts_made}")


Strategy = Callable[[int, str, BaseException, Job], Any]


def by_type(_attempt: int, kind: str, _error: BaseException, _job: Job) -> float:
    return {"soon": 10, "never": -1}[kind]


def by_error(_attempt: int, _kind: str, error: BaseException, _job: Job) -> float:
    return 10 if isinstance(error, TemporaryError) and "1" not in str(error) else -1


def by_data(_attempt: int, _kind: str, _error: BaseException, job: Job) -> float:
    return job.data["i"] - 1


def by_attempt(attempt: int, _kind: str, _error: BaseException, _job: Job) -> float:
    return -1 if attempt == 2 else 0


def of_nothing(_attempt: int, _kind: str, _error: BaseException, _job: Job) -> None:
    return None


async def awaited(attempt: int, _kind: str, _error: BaseException, job: Job) -> float:
    await job.log(f"attempt {attempt}")
    return 5


@pytest.mark.parametrize(
    ("strategy", "kind", "attempts", "made"),
    [
        (by_type, "soon", 3, 3),
        (by_type, "never", 3, 1),
        (by_error, "own", 9, 2),
        (by_data, "own", 9, 1),
        (by_attempt, "own", 9, 2),
        (of_nothing, "own", 3, 3),
        (awaited, "own", 3, 3),
    ],
)
async def test_a_strategy_decides_by_all_that_it_is_told(
    queue: Inspector,
    start_worker: StartWorker,
    strategy: Strategy,
    kind: str,
    attempts: int,
    made: int,
) -> None:
    start_worker(fails, settings={"backoffStrategy": strategy})
    await queue.add(attempts=attempts, backoff={"type": kind})
    await eventually(lambda: queue.has(failed=1))
    job = await queue.job("j0")
    assert (job["atm"], job["ats"]) == (str(made), str(made))
    assert len(json.loads(job["stacktrace"])) == made


async def test_a_strategy_that_throws_fails_its_job_with_what_it_says(
    queue: Inspector, start_worker: StartWorker
) -> None:
    def broken(*_told: Any) -> float:
        raise LookupError("no such strategy")

    start_worker(fails, settings={"backoffStrategy": broken})
    await queue.add(attempts=5, backoff={"type": "own"})
    await eventually(lambda: queue.has(failed=1))
    assert "no such strategy" in (await queue.job("j0"))["failedReason"]


@pytest.mark.parametrize(
    ("backoff", "least_ms"),
    [
        (60, [60, 60]),
        ({"type": "fixed", "delay": 60}, [60, 60]),
        ({"type": "exponential", "delay": 40}, [40, 80]),
        ({"type": "fixed", "delay": 60, "jitter": 0.5}, [30, 30]),
        ({"type": "exponential", "delay": 60, "jitter": 1}, [0, 0]),
        (0, [0, 0]),
    ],
)
async def test_backoffs_keep_their_times(
    queue: Inspector, start_worker: StartWorker, backoff: Any, least_ms: list[int]
) -> None:
    ran: list[float] = []

    async def process(job: Job, token: str) -> None:
        ran.append(time.time() * 1000)
        raise TemporaryError

    start_worker(process)
    await queue.add(attempts=3, backoff=backoff)
    await eventually(lambda: queue.has(failed=1))
    waited = [later - earlier for earlier, later in pairwise(ran)]
    for gap, least in zip(waited, least_ms, strict=True):
        # A clock of ours against one of Redis', to the millisecond.
        assert least - 3 <= gap < least + 500, waited


async def test_what_failed_is_kept_while_a_job_waits_for_its_next_attempt(
    queue: Inspector, start_worker: StartWorker
) -> None:
    worker = start_worker(fails)
    events = Events(worker, "failed")
    await queue.add(attempts=2, backoff=60_000)
    await eventually(lambda: queue.has(delayed=1))
    job = await queue.job("j0")
    assert (job["failedReason"], job["atm"]) == ("no 0", "1")
    assert len(json.loads(job["stacktrace"])) == 1
    assert "finishedOn" not in job
    assert [e["event"] for e in await queue.events()][-2:] == ["active", "delayed"]
    assert len(events.of("failed")) == 1


async def test_retries_are_exhausted_only_for_jobs_that_had_them(
    queue: Inspector, start_worker: StartWorker
) -> None:
    async def process(job: Job, token: str) -> None:
        if job.id != "fine":
            raise TemporaryError

    start_worker(process)
    opts = {"single": {"attempts": 1}, "fine": {"attempts": 3}, "without": {}}
    await queue.producer.add_many([JobSpec("mail", {}, name, each) for name, each in opts.items()])
    await eventually(lambda: queue.has(completed=1, failed=2))
    told = [e for e in await queue.events() if e["event"] == "retries-exhausted"]
    assert [(e["jobId"], e["attemptsMade"]) for e in told] == [("single", "1"), ("without", "1")]


async def test_a_retried_job_stands_behind_what_waits_and_an_urgent_one_before_less_urgent_ones(
    queue: Inspector, start_worker: StartWorker
) -> None:
    ran: list[str] = []

    async def process(job: Job, token: str) -> None:
        ran.append(job.id)
        if job.attempts_made == 0 and job.id.startswith("again"):
            raise TemporaryError

    specs = [
        JobSpec("mail", {}, "again-plain", {"attempts": 2}),
        JobSpec("mail", {}, "plain"),
        JobSpec("mail", {}, "again-urgent", {"attempts": 2, "priority": 1}),
        JobSpec("mail", {}, "less-urgent", {"priority": 5}),
    ]
    await queue.producer.add_many(specs)
    start_worker(process)
    await eventually(lambda: queue.has(completed=4))
    assert ran == [
        *("again-plain", "plain", "again-plain"),
        *("again-urgent", "again-urgent", "less-urgent"),
    ]


async def test_a_lifo_job_is_retried_before_what_waits(
    queue: Inspector, start_worker: StartWorker
) -> None:
    ran: list[str] = []

    async def process(job: Job, token: str) -> None:
        ran.append(job.id)
        if len(ran) == 1:
            raise TemporaryError

    await queue.producer.add("mail", {}, job_id="plain")
    await queue.producer.add("mail", {}, job_id="first", opts={"lifo": True, "attempts": 2})
    start_worker(process)
    await eventually(lambda: queue.has(completed=2))
    assert ran == ["first", "first", "plain"]


async def test_a_due_job_comes_before_one_that_is_retried_meanwhile(
    queue: Inspector, start_worker: StartWorker
) -> None:
    ran: list[str] = []

    async def due() -> bool:
        return int((await queue.job("due"))["timestamp"]) + 40 < time.time() * 1000

    async def process(job: Job, token: str) -> None:
        ran.append(job.id)
        if len(ran) == 1:
            await eventually(due)
            raise TemporaryError

    await queue.producer.add("mail", {}, job_id="due", delay_ms=30)
    await queue.producer.add("mail", {}, job_id="retried", opts={"attempts": 2})
    start_worker(process)
    await eventually(lambda: queue.has(completed=2))
    assert ran == ["retried", "due", "retried"]


async def test_a_job_that_has_used_its_attempts_runs_once_more_for_each_retry(
    queue: Inspector, start_worker: StartWorker
) -> None:
    retried: list[Job] = []

    async def retry(job: Job, _error: BaseException, _prev: str) -> None:
        await job.retry("failed")

    worker = start_worker(fails)
    worker.on("failed", lambda job, *_: retried.append(job))
    await queue.add(attempts=2)
    await eventually(lambda: queue.has(failed=1))
    for made in (3, 4):
        await retry(retried[-1], TemporaryError(), "active")
        await eventually(lambda made=made: _made(queue, made))
        await eventually(lambda: queue.has(failed=1))


async def test_a_job_is_not_retried_that_is_not_over(
    queue: Inspector, start_worker: StartWorker
) -> None:
    refusals: list[JobRefused] = []

    async def process(job: Job, token: str) -> None:
        for state in ("failed", "completed"):
            try:
                await job.retry(state)
            except JobRefused as refused:
                refusals.append(refused)

    start_worker(process)
    await queue.add()
    await eventually(lambda: queue.has(completed=1))
    assert len(refusals) == 2
    assert (await queue.job("j0"))["ats"] == "1"


async def test_nothing_of_a_removed_job_is_left_where_the_removals_are_limited(
    queue: Inspector, start_worker: StartWorker
) -> None:
    async def process(job: Job, token: str) -> None:
        await job.log("a row")

    start_worker(process, removeOnComplete={"age": 3600, "count": 2, "limit": 1})
    await queue.add(8)
    await eventually(lambda: _finished(queue, 8))
    kept = set(await queue.client.zrange(queue.keys.of("completed"), 0, -1))
    prefix = queue.keys.job("")
    own = {key.removeprefix(prefix) async for key in queue.client.scan_iter(f"{prefix}j*")}
    assert own == kept | {f"{one}:logs" for one in kept}
    assert len(kept) < 8


async def _finished(queue: Inspector, count: int) -> bool:
    told = [e for e in await queue.events() if e["event"] == "completed"]
    return len(told) == count


async def _made(queue: Inspector, attempts: int) -> bool:
    return (await queue.job("j0"))["atm"] == str(attempts)
