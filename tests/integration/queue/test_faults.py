"""Lost replies, Redis away, locks gone, a blocked loop: where other workers lose or double jobs."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
import redis.asyncio

from campaign_worker.errors import JobNotHeld, RedisAway
from campaign_worker.queue import AbortReason, Deferred, JobSpec
from campaign_worker.queue.housekeeping import Housekeeper
from tests.integration.queue.conftest import Events, Inspector, StartWorker
from tests.support import TcpProxy, eventually, free_port

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from campaign_worker.embedded.redis import RedisServer
    from campaign_worker.queue import AbortSignal, Job
    from campaign_worker.queue.clock import RedisClock

    MakeRedis = Callable[..., Awaitable[RedisServer]]


async def test_a_lost_reply_to_a_claim_loses_no_job_and_costs_no_stall(
    queue: Inspector, start_worker: StartWorker, redis_url: str
) -> None:
    ran: list[str] = []

    async def process(job: Job, token: str) -> None:
        ran.append(job.id)

    async with TcpProxy(redis_url) as proxy:
        worker = start_worker(process, connection=proxy.url)
        await eventually(lambda: worker.last_claim_monotonic)
        worker.hold("test")
        await queue.add()
        proxy.cut_on_next_reply()
        worker.release("test")
        await eventually(lambda: queue.has(completed=1), 2)
        await worker.close()
    job = await queue.job("j0")
    assert (job["ats"], job["atm"], job.get("stc")) == ("2", "1", None)
    assert ran == ["j0"]


async def test_a_claim_that_redis_executes_when_its_worker_is_back_already_is_returned(
    queue: Inspector, start_worker: StartWorker, redis_url: str
) -> None:
    async def process(job: Job, token: str) -> None:
        raise AssertionError("must not run")

    async with TcpProxy(redis_url) as proxy:
        worker = start_worker(process, connection=proxy.url, skipStalledCheck=True)
        await eventually(lambda: worker.last_claim_monotonic)
        worker.hold("test")
        link, known = worker._engine.link, proxy.connections
        proxy.cut()
        await eventually(lambda: proxy.connections > known and link.connected)
        # What stood in the buffers of the old connection.
        await queue.add()
        await queue.client.lmove(queue.keys.of("wait"), queue.keys.of("active"))
        await queue.client.set(queue.keys.lock("j0"), f"{worker.id}:999")
        await eventually(lambda: queue.has(waiting=1), 10)
    assert await queue.lock("j0") is None


async def test_a_worker_that_is_back_returns_neither_what_it_runs_nor_what_a_rival_runs(
    queue: Inspector, start_worker: StartWorker, redis_url: str
) -> None:
    started: list[str] = []
    ended = asyncio.Event()

    async def process(job: Job, token: str) -> None:
        started.append(job.id)
        await ended.wait()

    async with TcpProxy(redis_url) as proxy:
        worker = start_worker(process, connection=proxy.url)
        start_worker(process)
        await queue.add(2)
        await eventually(lambda: len(started) == 2)
        link, known = worker._engine.link, proxy.connections
        proxy.cut()
        await eventually(lambda: proxy.connections > known and link.connected)
        assert await queue.counts() == {"active": 2}
        ended.set()
        await eventually(lambda: queue.has(completed=2))
        await worker.close()
    assert sorted(started) == ["j0", "j1"]
    assert [(await queue.job(job_id))["ats"] for job_id in ("j0", "j1")] == ["1", "1"]


async def test_a_lost_reply_to_a_finish_repeats_nothing_and_loses_nothing(
    queue: Inspector, start_worker: StartWorker, redis_url: str
) -> None:
    ran: list[str] = []
    async with TcpProxy(redis_url) as proxy:

        async def process(job: Job, token: str) -> str:
            ran.append(job.id)
            if job.id == "j0":
                proxy.cut_on_next_reply()
            return "done"

        worker = start_worker(process, connection=proxy.url)
        events = Events(worker, "completed", "failed")
        await queue.add(3)
        await eventually(lambda: queue.has(completed=3))
        await worker.close()
    assert ran == ["j0", "j1", "j2"]
    assert sorted(job.id for job, *_ in events.of("completed")) == ["j0", "j1", "j2"]
    # The second job was claimed by the finish whose reply was lost, and again after its return.
    assert [(await queue.job(f"j{i}"))["ats"] for i in range(3)] == ["1", "2", "1"]
    assert [(await queue.job(f"j{i}"))["atm"] for i in range(3)] == ["1", "1", "1"]


@pytest.mark.parametrize("ending", ["remove", "retry", "defer"])
async def test_every_kind_of_finish_survives_a_lost_reply(
    queue: Inspector, start_worker: StartWorker, redis_url: str, ending: str
) -> None:
    ran: list[int] = []
    async with TcpProxy(redis_url) as proxy:

        async def process(job: Job, token: str) -> Any:
            ran.append(job.attempts_made)
            if len(ran) > 1:
                return "second"
            proxy.cut_on_next_reply()
            if ending == "retry":
                raise ValueError("no")
            if ending == "defer":
                return Deferred(int(time.time() * 1000) + 100)
            return "first"

        worker = start_worker(process, connection=proxy.url)
        errors = Events(worker, "completed", "failed", "error")
        opts = {"removeOnComplete": True} if ending == "remove" else {"attempts": 2}
        await queue.add(1, **opts, backoff=50)
        await eventually(lambda: errors.of("completed"))
        await worker.close()
    assert await queue.counts() == ({} if ending == "remove" else {"completed": 1})
    assert ran == {"remove": [0], "retry": [0, 1], "defer": [0, 0]}[ending]
    assert not [error for (error, *_) in errors.of("error") if isinstance(error, JobNotHeld)]
    assert len(errors.of("failed")) == (ending == "retry")


async def test_a_redis_that_restarts_in_the_middle_loses_and_doubles_nothing(
    own_redis: MakeRedis, start_worker: StartWorker
) -> None:
    server = await own_redis(appendfsync="always")
    client = redis.asyncio.Redis.from_url(server.url, decode_responses=True)
    queue = Inspector(client, "bull")
    finished: list[str] = []

    async def process(job: Job, token: str) -> None:
        await job.log("a round trip of work")

    async def survive(job: Job, token: str) -> None:
        try:
            await process(job, token)
        except RedisAway:
            return

    worker = start_worker(survive, connection=server.url, prefix="bull", concurrency=10)
    worker.on("completed", lambda job, *_: finished.append(job.id))
    await queue.producer.add_many([JobSpec("mail", i, f"x{i}") for i in range(2000)])
    await eventually(lambda: len(finished) > 200)
    await server.kill()
    await server.start()
    await client.connection_pool.disconnect()
    back = time.monotonic()
    seen = len(finished)
    await eventually(lambda: len(finished) > seen)
    assert time.monotonic() - back < 2
    await eventually(lambda: queue.has(completed=2000), 20)
    stalls = [await queue.client.hget(queue.keys.job(f"x{i}"), "stc") for i in range(2000)]
    assert set(stalls) == {None}
    await worker.close()
    await client.aclose()


async def test_a_worker_that_starts_before_redis_works_as_soon_as_redis_is_there(
    own_redis: MakeRedis, start_worker: StartWorker
) -> None:
    port = free_port()

    async def process(job: Job, token: str) -> None:
        return None

    worker = start_worker(process, connection=f"redis://127.0.0.1:{port}/0", prefix="bull")
    events = Events(worker, "error", "ready")
    await eventually(lambda: events.of("error"))
    server = await own_redis(port=port)
    up = time.monotonic()
    await eventually(lambda: events.of("ready"))
    assert time.monotonic() - up < 1.5
    client = redis.asyncio.Redis.from_url(server.url, decode_responses=True)
    queue = Inspector(client, "bull")
    await queue.add()
    await eventually(lambda: queue.has(completed=1))
    await worker.close()
    await client.aclose()


async def test_a_deleted_lock_aborts_its_job_and_nothing_is_written_for_it(
    queue: Inspector, start_worker: StartWorker
) -> None:
    signals: list[AbortSignal] = []
    cancelled = asyncio.Event()

    async def process(job: Job, token: str, signal: AbortSignal) -> None:
        signals.append(signal)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    worker = start_worker(process, lockDuration=400, skipStalledCheck=True)
    events = Events(worker, "failed", "completed", "lockRenewalFailed", "error")
    await queue.add()
    await eventually(lambda: signals)
    await queue.client.delete(queue.keys.lock("j0"))
    before = await queue.job("j0")
    await asyncio.wait_for(cancelled.wait(), 2)
    await eventually(lambda: worker.active_jobs == 0)
    assert signals[0].reason is AbortReason.LOCK_LOST
    assert events.of("lockRenewalFailed") == [(["j0"],)]
    assert not events.of("failed")
    assert not events.of("completed")
    assert await queue.job("j0") == before
    assert await queue.counts() == {"active": 1}


async def test_a_deleted_lock_fences_its_job_although_the_loop_is_blocked(
    queue: Inspector, start_worker: StartWorker
) -> None:
    seen: list[bool] = []

    async def process(job: Job, token: str, signal: AbortSignal) -> None:
        await queue.client.delete(queue.keys.lock(job.id))
        # Renewals come every 100 ms, and nobody in the loop can hear of them.
        _block_for(0.5)
        seen.append(signal.aborted)

    start_worker(process, lockDuration=30_000, lockRenewTime=200, skipStalledCheck=True)
    await queue.add()
    await eventually(lambda: seen)
    assert seen == [True]


async def test_a_lock_is_believed_from_before_it_was_asked_for(
    queue: Inspector, start_worker: StartWorker, redis_url: str
) -> None:
    believed_seconds, ended = 0.9 * 30, asyncio.Event()
    signals: list[AbortSignal] = []
    until: list[float] = []

    async def process(job: Job, token: str, signal: AbortSignal) -> None:
        signals.append(signal)
        until.append(signal.valid_until)
        await ended.wait()

    options = {"lockDuration": 30_000, "lockRenewTime": 2000, "drainDelay": 60}
    async with TcpProxy(redis_url) as proxy:
        worker = start_worker(process, connection=proxy.url, skipStalledCheck=True, **options)
        worker.on("locksRenewed", lambda *_: until.append(signals[0].valid_until))
        await eventually(lambda: worker.last_claim_monotonic)
        worker.hold("test")
        await queue.add()
        for _what in ("the claim", "a renewal"):
            known = len(until)
            proxy.hold_replies()
            worker.release("test")
            await proxy.held_reply.wait()
            await eventually(lambda: queue.has(active=1))
            executed_at = time.monotonic()
            proxy.pass_all()
            await eventually(lambda known=known: len(until) > known)
            assert until[known] < executed_at + believed_seconds
        ended.set()
        await worker.close()


async def test_renewals_that_meet_a_finish_are_no_lost_locks(
    queue: Inspector, start_worker: StartWorker
) -> None:
    async def process(job: Job, token: str) -> None:
        await job.log("a round trip of work")

    # Renewals every 2 ms: many meet a job that has just been finished.
    worker = start_worker(process, concurrency=20, lockDuration=5000, lockRenewTime=4)
    events = Events(worker, "lockRenewalFailed", "error", "locksRenewed")
    await queue.producer.add_many([JobSpec("mail", i, f"x{i}") for i in range(3000)])
    await eventually(lambda: queue.has(completed=3000), 20)
    assert len(events.of("locksRenewed")) > 10
    assert not events.of("lockRenewalFailed")
    assert not events.of("error")


async def test_a_job_whose_lock_went_to_somebody_else_is_lost_not_failed(
    queue: Inspector, start_worker: StartWorker
) -> None:
    async def process(job: Job, token: str) -> str:
        await queue.client.set(queue.keys.lock(job.id), "somebody else's")
        return "done"

    worker = start_worker(process)
    events = Events(worker, "failed", "completed", "error")
    await queue.add(attempts=3)
    await eventually(lambda: events.of("error"))
    assert [name for name, _ in events.seen] == ["error"]
    job = await queue.job("j0")
    assert (job.get("atm"), job.get("failedReason")) == (None, None)
    assert await queue.lock("j0") == "somebody else's"


@pytest.mark.parametrize("place", ["wait", "gone"])
async def test_a_job_that_is_no_longer_active_is_lost_not_failed(
    queue: Inspector, start_worker: StartWorker, place: str
) -> None:
    ran: list[str] = []

    async def process(job: Job, token: str) -> str:
        ran.append(job.id)
        if len(ran) > 1:
            return "again"
        # What a sweep does to a job whose lock has run out, or an operator who removes it.
        await queue.client.delete(queue.keys.lock(job.id))
        await queue.client.lrem(queue.keys.of("active"), 1, job.id)
        if place == "wait":
            await queue.client.rpush(queue.keys.of("wait"), job.id)
        else:
            await queue.client.delete(queue.keys.job(job.id))
        raise ValueError("the outcome of the first run")

    worker = start_worker(process, drainDelay=0.2)
    events = Events(worker, "failed", "completed", "error")
    await queue.add(attempts=3)
    await eventually(lambda: events.of("error"))
    assert isinstance(events.of("error")[0][0], JobNotHeld)
    if place == "wait":
        await eventually(lambda: queue.has(completed=1))
        job = await queue.job("j0")
        assert (job["atm"], job.get("failedReason")) == ("1", None)
    assert not events.of("failed")


async def test_a_lock_that_merely_ran_out_while_the_finish_was_under_way_is_taken_again(
    queue: Inspector, start_worker: StartWorker
) -> None:
    async def process(job: Job, token: str) -> str:
        await queue.client.delete(queue.keys.lock(job.id))
        return "done"

    start_worker(process)
    await queue.add()
    await eventually(lambda: queue.has(completed=1))
    assert await queue.lock("j0") is None


async def test_a_lock_that_a_rival_takes_while_it_is_looked_up_stays_the_rival_s(
    queue: Inspector, start_worker: StartWorker, redis_url: str
) -> None:
    async with TcpProxy(redis_url) as proxy:

        async def process(job: Job, token: str) -> str:
            await queue.client.delete(queue.keys.lock(job.id))
            proxy.hold_replies()
            return "done"

        worker = start_worker(process, connection=proxy.url, skipStalledCheck=True)
        events = Events(worker, "completed", "failed", "error")
        await queue.add()
        # First the finish is refused, then its job is looked up: nobody has the lock.
        await proxy.held_reply.wait()
        proxy.pass_all()
        proxy.hold_replies()
        await proxy.held_reply.wait()
        await queue.client.set(queue.keys.lock("j0"), "a rival's")
        proxy.pass_all()
        await eventually(lambda: events.seen)
    assert [type(error) for (error, *_) in events.of("error")] == [JobNotHeld]
    assert len(events.seen) == 1
    assert await queue.lock("j0") == "a rival's"


async def test_a_loop_that_is_blocked_for_two_lock_durations_loses_no_lock(
    queue: Inspector, start_worker: StartWorker
) -> None:
    # With a rival, in a process of its own: test_a_blocked_event_loop_loses_no_lock.
    async def process(job: Job, token: str, signal: AbortSignal) -> str:
        _block_for(0.8)
        return "aborted" if signal.aborted else "done"

    worker = start_worker(process, lockDuration=400)
    await queue.add()
    await eventually(lambda: queue.has(completed=1))
    await worker.close()
    job = await queue.job("j0")
    assert (job["returnvalue"], job.get("stc")) == ('"done"', None)


async def test_a_loop_that_hangs_gives_its_locks_up(
    queue: Inspector, start_worker: StartWorker
) -> None:
    seen: list[tuple[str, bool]] = []

    async def process(job: Job, token: str, signal: AbortSignal) -> str:
        _block_for(1.4)
        # Noted before anything is awaited: the cancellation is on its way.
        seen.append((job.id, signal.aborted))
        return "done"

    worker = start_worker(process, lockDuration=200, skipStalledCheck=True)
    await queue.add()
    await eventually(lambda: worker.last_claim_monotonic and worker.active_jobs == 0 and seen)
    ((job_id, aborted),) = seen
    assert aborted
    assert not await queue.client.exists(queue.keys.lock(job_id))
    assert await queue.counts() == {"active": 1}


async def test_renewals_that_stay_unanswered_abort_the_job_before_the_lock_can_be_gone(
    queue: Inspector, start_worker: StartWorker, redis_url: str
) -> None:
    reasons: list[tuple[AbortReason | None, int]] = []
    running = asyncio.Event()

    async def process(job: Job, token: str, signal: AbortSignal) -> None:
        running.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            lock = queue.keys.lock(job.id)
            reasons.append((signal.reason, await queue.client.pttl(lock)))
            raise

    async with TcpProxy(redis_url) as proxy:
        worker = start_worker(process, connection=proxy.url, lockDuration=1000)
        await queue.add()
        await running.wait()
        proxy.hold_requests()
        await eventually(lambda: reasons)
        assert reasons[0][0] is AbortReason.LOCK_LOST
        assert reasons[0][1] > 0
        proxy.pass_all()
        await worker.close()


async def test_the_first_stalled_sweep_is_at_start(
    queue: Inspector, start_worker: StartWorker
) -> None:
    await queue.add()
    await queue.client.rpoplpush(queue.keys.of("wait"), queue.keys.of("active"))
    await queue.client.sadd(queue.keys.of("stalled"), "j0")

    async def process(job: Job, token: str) -> None:
        return None

    worker = start_worker(process)
    events = Events(worker, "stalled")
    await eventually(lambda: queue.has(completed=1))
    assert events.of("stalled") == [("j0", "active")]
    assert (await queue.job("j0"))["stc"] == "1"


async def test_a_job_that_stalls_too_often_is_failed(
    queue: Inspector, start_worker: StartWorker
) -> None:
    await queue.add()
    await queue.client.rpoplpush(queue.keys.of("wait"), queue.keys.of("active"))
    await queue.client.sadd(queue.keys.of("stalled"), "j0")

    async def process(job: Job, token: str) -> None:
        raise AssertionError("must not run")

    start_worker(process, maxStalledCount=0)
    await eventually(lambda: queue.has(failed=1))
    assert (await queue.job("j0"))["failedReason"] == "job stalled more than allowable limit"


async def test_a_server_that_lost_its_scripts_is_given_them_again(
    queue: Inspector, start_worker: StartWorker
) -> None:
    async def process(job: Job, token: str) -> None:
        await queue.client.script_flush()

    start_worker(process)
    await queue.add(3)
    await eventually(lambda: queue.has(completed=3))


async def test_the_clock_of_redis_is_asked_again_and_again(
    queue: Inspector, start_worker: StartWorker
) -> None:
    worker = start_worker(None)
    await worker.wait_until_ready()
    engine = worker._engine
    # As after Redis' clock was set: it is not any more what it was.
    engine.clock.sync(0, ["120", "0"], 0)
    assert _wrong_by_ms(engine.clock) > 1000
    keeper = Housekeeper(engine.link, engine.keys, engine.intake, clock_seconds=0)
    keeping = asyncio.create_task(keeper.run())
    await eventually(lambda: _wrong_by_ms(engine.clock) < 1000)
    keeping.cancel()


def _wrong_by_ms(clock: RedisClock) -> float:
    return abs(clock.now_ms() - time.time() * 1000)


def _block_for(seconds: float) -> None:
    """Hold the event loop as synchronous code would."""
    time.sleep(seconds)
