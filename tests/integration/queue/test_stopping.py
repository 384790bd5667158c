"""Stopping: nothing is lost, doubled, stalled or counted, however the worker is told to end."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
import redis.asyncio

from campaign_worker.queue import AbortReason, HandedBack, JobSpec, Producer, Worker
from campaign_worker.stopping import Tally
from shutdown import Deadline
from tests.integration.queue.conftest import QUEUE, Events, Inspector, StartWorker
from tests.support import TcpProxy, eventually

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from campaign_worker.embedded.redis import RedisServer
    from campaign_worker.queue import AbortSignal, Job


class Gate:
    """A processor that waits to be let go, and says which jobs have started."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.ended: list[str] = []
        self.open = asyncio.Event()

    async def __call__(self, job: Job, _token: str) -> str:
        self.started.append(job.id)
        await self.open.wait()
        self.ended.append(job.id)
        return "done"


async def test_close_keeps_every_lock_until_the_last_job_has_finished(
    queue: Inspector, start_worker: StartWorker
) -> None:
    ends = {"j0": asyncio.Event(), "j1": asyncio.Event(), "j2": asyncio.Event()}
    started: list[str] = []

    async def process(job: Job, token: str) -> None:
        started.append(job.id)
        await ends[job.id].wait()

    worker = start_worker(process, concurrency=3, lockDuration=400)
    await queue.add(3)
    await eventually(lambda: len(started) == 3)
    closing = asyncio.create_task(worker.close())
    ends["j0"].set()
    await eventually(lambda: queue.has(active=2, completed=1))
    renewed = Events(worker, "locksRenewed")
    rival = start_worker(process, lockDuration=400, stalledInterval=100)
    await eventually(lambda: len(renewed.seen) >= 8)
    assert await queue.lock("j1")
    assert await queue.lock("j2")
    ends["j1"].set()
    ends["j2"].set()
    await closing
    await rival.close()
    assert await queue.counts() == {"completed": 3}
    assert [(await queue.job(job_id)).get("stc") for job_id in ends] == [None] * 3
    assert sorted(started) == ["j0", "j1", "j2"]


@pytest.mark.parametrize("opts", [{}, {"priority": 3}, {"lifo": True}], ids=str)
async def test_a_job_handed_back_is_untouched_and_a_rival_has_it_at_once(
    queue: Inspector, start_worker: StartWorker, opts: dict[str, Any]
) -> None:
    gate, rival_gate = Gate(), Gate()
    worker = start_worker(gate)
    await queue.add(**opts, attempts=3)
    await eventually(lambda: gate.started)
    rival = start_worker(rival_gate)
    await rival.wait_until_ready()
    await eventually(lambda: rival.last_claim_monotonic)
    worker.quiet()
    handed_at = time.monotonic()
    await worker.hand_back(Deadline.after(2))
    await eventually(lambda: rival_gate.started)
    assert time.monotonic() - handed_at < 0.5
    job = await queue.job("j0")
    assert (job.get("atm"), job.get("stc"), job["ats"]) == (None, None, "2")
    assert gate.ended == []
    rival_gate.open.set()
    await eventually(lambda: queue.has(completed=1))


async def test_a_processor_may_hand_its_job_back_when_told_to_stop(
    queue: Inspector, start_worker: StartWorker
) -> None:
    running = asyncio.Event()

    async def process(job: Job, token: str, signal: AbortSignal) -> HandedBack:
        running.set()
        return HandedBack((await signal.wait()).value)

    worker = start_worker(process)
    await queue.add()
    await running.wait()
    worker.quiet()
    assert await worker.settle_intake(Deadline.after(1))
    assert not await worker.drain(Deadline.after(0.05))
    worker.abort(AbortReason.SHUTDOWN)
    assert await worker.drain(Deadline.after(2))
    assert await queue.counts() == {"waiting": 1}
    assert (await queue.job("j0")).get("atm") is None


async def test_a_processor_that_ignores_cancellation_loses_its_job_at_the_deadline(
    queue: Inspector, start_worker: StartWorker
) -> None:
    running, released = asyncio.Event(), asyncio.Event()

    async def process(job: Job, token: str) -> str:
        running.set()
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue
        return "too late"

    worker = start_worker(process)
    await queue.add()
    await running.wait()
    worker.quiet()
    before = time.monotonic()
    await worker.hand_back(Deadline.after(0.5))
    assert time.monotonic() - before < 0.8
    assert await queue.counts() == {"waiting": 1}
    released.set()
    await worker.close()
    assert await queue.counts() == {"waiting": 1}
    assert (await queue.job("j0")).get("atm") is None


async def test_a_job_that_finishes_while_it_is_cancelled_is_completed(
    queue: Inspector, start_worker: StartWorker
) -> None:
    running = asyncio.Event()

    async def process(job: Job, token: str) -> str:
        running.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "already sent"
        return "never"

    worker = start_worker(process)
    await queue.add()
    await running.wait()
    worker.quiet()
    await worker.hand_back(Deadline.after(2))
    assert await queue.counts() == {"completed": 1}
    assert (await queue.job("j0"))["returnvalue"] == '"already sent"'


async def test_a_job_whose_outcome_is_being_written_is_not_handed_back_beside_that(
    queue: Inspector, start_worker: StartWorker, redis_url: str
) -> None:
    gate, tally = Gate(), Tally()
    tally.begin()
    async with TcpProxy(redis_url) as proxy:
        worker = start_worker(gate, connection=proxy.url, listener=tally)
        await queue.add()
        await eventually(lambda: gate.started)
        worker.quiet()
        assert await worker.settle_intake(Deadline.after(2))
        proxy.hold_requests()
        gate.open.set()
        await eventually(lambda: gate.ended)
        await worker.hand_back(Deadline.after(0.2))
        proxy.pass_all()
        assert await worker.drain(Deadline.after(2))
        await worker.close()
    assert await queue.counts() == {"completed": 1}
    assert (tally.finished, tally.handed_back, tally.abandoned) == (1, 0, 0)


async def test_a_finish_of_a_quiet_worker_does_not_even_claim_the_next_job(
    queue: Inspector, start_worker: StartWorker
) -> None:
    gate = Gate()
    worker = start_worker(gate)
    await queue.add(2)
    await eventually(lambda: gate.started)
    worker.quiet()
    gate.open.set()
    assert await worker.drain(Deadline.after(2))
    assert await queue.counts() == {"waiting": 1, "completed": 1}
    assert (await queue.job("j1")).get("ats") is None


async def test_a_claim_in_flight_when_the_worker_goes_quiet_is_handed_back(
    queue: Inspector, start_worker: StartWorker, redis_url: str
) -> None:
    gate = Gate()
    async with TcpProxy(redis_url) as proxy:
        worker = start_worker(gate, connection=proxy.url)
        await worker.wait_until_ready()
        await eventually(lambda: worker.last_claim_monotonic)
        # The block ends with the job's marker; the reply of the claim that follows is held.
        worker.hold("test")
        await queue.add()
        proxy.hold_replies()
        worker.release("test")
        await proxy.held_reply.wait()
        await eventually(lambda: queue.has(active=1))
        worker.quiet()
        settling = asyncio.create_task(worker.settle_intake(Deadline.after(3)))
        proxy.pass_all()
        assert await settling
        assert await queue.counts() == {"waiting": 1}
        assert gate.started == []
        job = await queue.job("j0")
        assert (job.get("atm"), job.get("stc")) == (None, None)
        await worker.close()


async def test_a_claimed_job_that_can_neither_start_nor_go_back_is_said_to_be_abandoned(
    queue: Inspector, start_worker: StartWorker, redis_url: str
) -> None:
    tally = Tally()
    tally.begin()
    async with TcpProxy(redis_url) as proxy:
        worker = start_worker(Gate(), connection=proxy.url, listener=tally)
        await eventually(lambda: worker.last_claim_monotonic)
        worker.hold("test")
        await queue.add()
        proxy.hold_replies()
        worker.release("test")
        await eventually(lambda: queue.has(active=1))
        worker.quiet()
        proxy.hold_requests()
        proxy.pass_replies()
        await worker.close(deadline=Deadline.after(0.5))
    assert await queue.counts() == {"active": 1}
    assert (tally.abandoned, tally.handed_back, tally.finished) == (1, 0, 0)


async def test_the_next_job_of_a_finish_in_flight_is_handed_back_too(
    queue: Inspector, start_worker: StartWorker, redis_url: str
) -> None:
    gate = Gate()
    async with TcpProxy(redis_url) as proxy:
        worker = start_worker(gate, connection=proxy.url)
        await queue.add(2)
        await eventually(lambda: gate.started)
        proxy.hold_replies()
        gate.open.set()
        await eventually(lambda: queue.has(active=1, completed=1))
        closing = asyncio.create_task(worker.close())
        await eventually(lambda: worker._engine.intake.quiet)
        proxy.pass_all()
        await closing
    assert gate.started == ["j0"]
    assert await queue.counts() == {"waiting": 1, "completed": 1}


async def test_quiet_puts_back_the_marker_that_the_dropped_block_has_taken(
    queue: Inspector, start_worker: StartWorker, redis_url: str
) -> None:
    gate, rival_gate = Gate(), Gate()
    rival_gate.open.set()
    async with TcpProxy(redis_url) as proxy:
        worker = start_worker(gate, connection=proxy.url)
        await eventually(lambda: _block(queue, 1))
        start_worker(rival_gate, drainDelay=30)
        await eventually(lambda: _block(queue, 2))
        proxy.hold_replies()
        await queue.add()
        # Whoever blocked first is served first.
        await proxy.held_reply.wait()
        worker.quiet()
        await eventually(lambda: queue.has(completed=1), 2)
        proxy.pass_all()
        await worker.close()
    assert rival_gate.ended == ["j0"]


async def test_close_is_bounded_when_redis_stops_answering(
    queue: Inspector, start_worker: StartWorker, redis_url: str
) -> None:
    gate = Gate()
    async with TcpProxy(redis_url) as proxy:
        worker = start_worker(gate, connection=proxy.url)
        await queue.add()
        await eventually(lambda: gate.started)
        proxy.drop_replies()
        gate.open.set()
        before = time.monotonic()
        await worker.close(deadline=Deadline.after(1))
        assert time.monotonic() - before < 4


async def test_a_close_without_a_deadline_is_bounded_when_redis_is_frozen(
    own_redis: Callable[..., Awaitable[RedisServer]],
) -> None:
    """Connections stay, nothing is answered: 5 s for a reply, 5 s for Redis to come back."""
    server = await own_redis()
    gate = Gate()
    client = redis.asyncio.Redis.from_url(server.url)
    worker = Worker(QUEUE, gate, {"connection": server.url})
    await worker.wait_until_ready()
    await Producer(client, QUEUE).add("mail", {}, job_id="j0")
    await eventually(lambda: gate.started)
    server.freeze()
    gate.open.set()
    before = time.monotonic()
    await asyncio.wait_for(worker.close(), 40)
    seconds = time.monotonic() - before
    server.thaw()
    await client.aclose()
    assert seconds < 20
    assert not worker.is_running()


async def test_a_forced_close_hurries_a_graceful_one_and_hands_back(
    queue: Inspector, start_worker: StartWorker
) -> None:
    gate = Gate()
    worker = start_worker(gate)
    events = Events(worker, "closing", "closed")
    await queue.add()
    await eventually(lambda: gate.started)
    graceful = asyncio.create_task(worker.close())
    await eventually(lambda: len(events.of("closing")) == 1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(graceful), 0.1)
    await worker.close(force=True)
    await graceful
    assert await queue.counts() == {"waiting": 1}
    assert [name for name, _ in events.seen] == ["closing", "closed"]


async def test_waiting_for_close_can_be_cut_short_without_harm(
    queue: Inspector, start_worker: StartWorker
) -> None:
    gate = Gate()
    worker = start_worker(gate)
    await queue.add()
    await eventually(lambda: gate.started)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(worker.close(), 0.05)
    gate.open.set()
    await worker.close()
    assert await queue.counts() == {"completed": 1}


async def test_close_before_run_and_twice_is_legal(redis_url: str, prefix: str) -> None:
    opts = {"connection": redis_url, "prefix": prefix, "autorun": False}
    worker = Worker(QUEUE, Gate(), opts)
    await worker.close()
    await worker.close()
    await worker.run()
    assert not worker.is_running()


async def test_fifty_closes_under_load_leave_no_job_active(
    queue: Inspector, start_worker: StartWorker
) -> None:
    total, enough = 0, 0
    reached = asyncio.Event()

    async def process(job: Job, token: str) -> None:
        nonlocal total
        await job.log("a round trip of work")
        total += 1
        if total >= enough:
            reached.set()

    await queue.producer.add_many([JobSpec("mail", i, f"x{i}") for i in range(3000)])
    counts: dict[str, int] = {}
    for round_ in range(50):
        reached.clear()
        enough = total + 1 + round_ % 7
        worker = start_worker(process, concurrency=10)
        await asyncio.wait_for(reached.wait(), 5)
        await worker.close()
        counts = await queue.counts()
        assert "active" not in counts, counts
    assert counts == {"completed": total, "waiting": 3000 - total}


async def _block(queue: Inspector, count: int) -> bool:
    return await queue.blocked() == count
