"""Locks, stalled jobs, cancelled jobs: who holds a job, and what becomes of one that nobody has."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from campaign_worker.queue import AbortReason, AbortSignal, Deferred, Job
from tests.integration.queue.conftest import Events, Inspector, StartWorker
from tests.support import eventually

TOO_OFTEN = "job stalled more than allowable limit"
HOUR_MS = 3_600_000


async def nothing(_job: Job, _token: str) -> None:
    return None


async def abandoned(queue: Inspector, count: int = 1, **opts: Any) -> list[str]:
    """Add jobs and leave them active, without a lock, as a worker does that has died."""
    added = await queue.add(count, **opts)
    for _ in added:
        await queue.client.rpoplpush(queue.keys.of("wait"), queue.keys.of("active"))
    await queue.client.sadd(queue.keys.of("stalled"), *added)
    return added


async def test_every_lock_of_many_jobs_is_kept(queue: Inspector, start_worker: StartWorker) -> None:
    gate = asyncio.Event()

    async def process(job: Job, token: str) -> None:
        await gate.wait()

    worker = start_worker(process, concurrency=30, lockDuration=400, stalledInterval=100)
    renewed = Events(worker, "locksRenewed", "lockRenewalFailed", "error")
    added = await queue.add(30)
    await eventually(lambda: worker.active_jobs == 30)

    def whose() -> set[str]:
        return {one for (told,) in renewed.of("locksRenewed") for one in told["jobIds"]}

    await eventually(lambda: whose() == set(added))
    await eventually(lambda: len(renewed.of("locksRenewed")) >= 8)
    locks = [await queue.lock(job_id) for job_id in added]
    gate.set()
    await eventually(lambda: queue.has(completed=30))
    assert all(lock and lock.startswith(worker.id) for lock in locks)
    assert len(set(locks)) == 30
    assert not renewed.of("lockRenewalFailed")
    assert not renewed.of("error")
    assert [(await queue.job(job_id)).get("stc") for job_id in added] == [None] * 30


@pytest.mark.parametrize("ending", ["complete", "fail", "retry", "defer", "move", "wait"])
async def test_no_ending_leaves_a_lock_or_a_mark_of_the_sweep(
    queue: Inspector, start_worker: StartWorker, ending: str
) -> None:
    swept = asyncio.Event()

    async def process(job: Job, token: str) -> Any:
        await queue.client.sadd(queue.keys.of("stalled"), job.id)
        swept.set()
        match ending:
            case "fail" | "retry":
                raise ValueError("no")
            case "defer" | "move":
                return Deferred(2**42)
            case _:
                return "done"

    start_worker(process, skipStalledCheck=True)
    await queue.add(1, **({"attempts": 2, "backoff": HOUR_MS} if ending == "retry" else {}))
    await swept.wait()
    await eventually(lambda: _none_active(queue))
    assert await queue.lock("j0") is None
    assert await queue.client.smembers(queue.keys.of("stalled")) == set()


async def test_stalled_jobs_come_back_before_what_waits_and_keep_what_they_had(
    queue: Inspector, start_worker: StartWorker
) -> None:
    ran: list[tuple[str, int]] = []

    async def process(job: Job, token: str) -> None:
        ran.append((job.id, job.stalled_counter))

    await abandoned(queue, attempts=3)
    await queue.client.hset(queue.keys.job("j0"), mapping={"atm": 1, "stc": 1, "ats": 2})
    await queue.producer.add("mail", {}, job_id="waits")
    worker = start_worker(process, maxStalledCount=2)
    events = Events(worker, "stalled", "active")
    await eventually(lambda: queue.has(completed=2))
    job = await queue.job("j0")
    assert ("j0", 2) in ran
    assert (job["stc"], job["atm"], job["ats"]) == ("2", "2", "3")
    assert events.of("stalled") == [("j0", "active")]
    told = [e["event"] for e in await queue.events() if e.get("jobId") == "j0"]
    assert told[-4:] == ["waiting", "stalled", "active", "completed"]


@pytest.mark.parametrize(("limit", "stalls", "state"), [(0, 0, "failed"), (1, 1, "failed")])
async def test_a_job_that_stalled_too_often_fails_without_another_attempt(
    queue: Inspector, start_worker: StartWorker, limit: int, stalls: int, state: str
) -> None:
    await abandoned(queue, attempts=5, backoff=HOUR_MS)
    await queue.client.hset(queue.keys.job("j0"), "stc", stalls)
    worker = start_worker(nothing, maxStalledCount=limit)
    events = Events(worker, "failed", "completed")
    await eventually(lambda: queue.has(**{state: 1}))
    job = await queue.job("j0")
    assert (job["failedReason"], job["stc"]) == (TOO_OFTEN, str(stalls + 1))
    assert "defa" not in job
    assert len(json.loads(job["stacktrace"])) == 1
    ((failed, error, _),) = events.of("failed")
    assert (failed.id, str(error)) == ("j0", TOO_OFTEN)


@pytest.mark.parametrize("limit", [1, 3])
async def test_a_job_may_stall_as_often_as_the_limit_says(
    queue: Inspector, start_worker: StartWorker, limit: int
) -> None:
    await abandoned(queue)
    await queue.client.hset(queue.keys.job("j0"), "stc", limit - 1)
    start_worker(nothing, maxStalledCount=limit)
    await eventually(lambda: queue.has(completed=1))
    assert (await queue.job("j0"))["stc"] == str(limit)


@pytest.mark.parametrize(
    ("of_job", "of_worker", "kept"),
    [
        (True, None, 0),
        (1, None, 1),
        ({"count": 2}, None, 2),
        ({"age": 3600}, None, 3),
        (None, {"count": 1}, 1),
        (None, True, 0),
        (False, True, 3),
    ],
)
async def test_jobs_that_stalled_too_often_are_kept_as_failed_ones_are(
    queue: Inspector, start_worker: StartWorker, of_job: Any, of_worker: Any, kept: int
) -> None:
    await abandoned(queue, 3, **({} if of_job is None else {"removeOnFail": of_job}))
    worker = start_worker(nothing, maxStalledCount=0, removeOnFail=of_worker)
    failed = Events(worker, "failed")
    await eventually(lambda: len(failed.seen) == 3)
    await eventually(lambda: queue.has(**({"failed": kept} if kept else {})))


async def test_a_worker_that_skips_the_check_returns_nobodys_jobs(
    queue: Inspector, start_worker: StartWorker
) -> None:
    await abandoned(queue)
    start_worker(nothing, skipStalledCheck=True)
    await queue.producer.add("mail", {}, job_id="plain")
    await eventually(lambda: queue.has(completed=1, active=1))
    assert not await queue.client.exists(queue.keys.of("stalled-check"))


async def test_one_sweep_in_an_interval_is_enough_for_all_workers(
    queue: Inspector, start_worker: StartWorker
) -> None:
    first = start_worker(nothing, stalledInterval=HOUR_MS)
    await eventually(lambda: _swept(queue))
    first.hold("until its job is nobody's")
    await abandoned(queue)
    first.release("until its job is nobody's")
    second = start_worker(nothing, stalledInterval=HOUR_MS)
    await queue.producer.add("mail", {}, job_id="plain")
    await eventually(lambda: queue.has(completed=1, active=1))
    assert [first.is_running(), second.is_running()] == [True, True]


async def test_many_stalled_jobs_come_back_and_a_held_one_stays(
    queue: Inspector, start_worker: StartWorker
) -> None:
    added = await abandoned(queue, 12)
    # Somebody has renewed its lock since the last sweep.
    await queue.client.set(queue.keys.lock("j5"), "somebody's", px=HOUR_MS)
    worker = start_worker(nothing, concurrency=4)
    events = Events(worker, "stalled")
    await eventually(lambda: queue.has(completed=11, active=1))
    stalled = {job_id for job_id, _ in events.of("stalled")}
    assert stalled == set(added) - {"j5"}
    assert (await queue.job("j5")).get("stc") is None


async def test_cancelling_reaches_only_the_jobs_that_are_meant(
    queue: Inspector, start_worker: StartWorker
) -> None:
    signals: dict[str, AbortSignal] = {}
    gate = asyncio.Event()

    async def process(job: Job, token: str, signal: AbortSignal) -> list[Any]:
        signals[job.id] = signal
        await gate.wait()
        return [signal.aborted, signal.detail]

    worker = start_worker(process, concurrency=3)
    assert not worker.cancel_job("j0")
    await queue.add(3)
    await eventually(lambda: len(signals) == 3)
    assert worker.cancel_job("j1", "first reason")
    assert worker.cancel_job("j1", "second reason")
    assert not worker.cancel_job("unknown")
    assert [signals[f"j{i}"].aborted for i in range(3)] == [False, True, False]
    assert signals["j1"].reason is AbortReason.CANCELLED
    gate.set()
    await eventually(lambda: queue.has(completed=3))
    results = [(await queue.job(f"j{i}"))["returnvalue"] for i in range(3)]
    assert results == ["[false,null]", '[true,"first reason"]', "[false,null]"]
    assert not worker.cancel_job("j1")


@pytest.mark.parametrize("retried", [True, False])
async def test_a_cancelled_job_that_throws_is_tried_again_like_any_other(
    queue: Inspector, start_worker: StartWorker, *, retried: bool
) -> None:
    runs: list[int] = []

    async def process(job: Job, token: str, signal: AbortSignal) -> str:
        runs.append(job.attempts_made)
        if len(runs) == 1:
            raise ConnectionAbortedError(f"stopped: {(await signal.wait()).value}")
        return "second time"

    worker = start_worker(process)
    await queue.add(1, **({"attempts": 2} if retried else {}))
    await eventually(lambda: worker.cancel_job("j0"))
    await eventually(lambda: queue.has(**{"completed" if retried else "failed": 1}))
    job = await queue.job("j0")
    assert job["failedReason"] == "stopped: cancelled"
    assert runs == ([0, 1] if retried else [0])


async def test_jobs_that_come_after_all_were_cancelled_are_not(
    queue: Inspector, start_worker: StartWorker
) -> None:
    async def process(job: Job, token: str, signal: AbortSignal) -> bool:
        if job.id == "j0":
            await signal.wait()
        return signal.aborted

    worker = start_worker(process)
    await queue.add(3)
    await eventually(lambda: worker.active_jobs == 1)
    worker.cancel_all_jobs()
    await eventually(lambda: queue.has(completed=3))
    results = [(await queue.job(f"j{i}"))["returnvalue"] for i in range(3)]
    assert results == ["true", "false", "false"]


async def test_a_job_without_lock_and_place_keeps_no_slot_of_the_global_concurrency(
    queue: Inspector, start_worker: StartWorker
) -> None:
    running = asyncio.Event()

    async def process(job: Job, token: str) -> str:
        if job.id == "j0":
            # Removed by somebody while it runs, lock and all.
            await queue.client.delete(queue.keys.lock("j0"), queue.keys.job("j0"))
            await queue.client.lrem(queue.keys.of("active"), 1, "j0")
            running.set()
        return "done"

    await queue.client.hset(queue.keys.of("meta"), "concurrency", 1)
    await queue.add(3)
    start_worker(process, concurrency=3)
    await running.wait()
    await eventually(lambda: queue.has(completed=2))


async def test_a_job_claimed_by_hand_tells_that_it_is_to_fail(
    queue: Inspector, start_worker: StartWorker
) -> None:
    worker: Any = start_worker(None)
    events = Events(worker, "active")
    await queue.add()
    await queue.client.hset(queue.keys.job("j0"), "defa", "child bull:other:1 failed")
    job = await worker.get_next_job("token")
    assert job.deferred_failure == "child bull:other:1 failed"
    await job.move_to_failed(ValueError(job.deferred_failure), "token")
    assert [one.id for one, _ in events.of("active")] == ["j0"]
    assert await queue.counts() == {"failed": 1}
    assert (await queue.job("j0"))["failedReason"] == "child bull:other:1 failed"


async def _swept(queue: Inspector) -> bool:
    return bool(await queue.client.exists(queue.keys.of("stalled-check")))


async def _none_active(queue: Inspector) -> bool:
    counts = await queue.counts()
    return bool(counts) and "active" not in counts
