"""Manual mode: jobs that are claimed, kept and ended by hand."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from campaign_worker.errors import JobNotHeld, RedisAway, UnsupportedOption
from campaign_worker.queue import Job, UnrecoverableError, Worker
from tests.integration.queue.conftest import QUEUE, Events, Inspector, StartWorker
from tests.support import TcpProxy, eventually

TOKEN = "my-token"


async def test_a_job_is_claimed_and_completed_by_hand_under_nodes_names(
    queue: Inspector, start_worker: StartWorker
) -> None:
    worker: Any = start_worker(None, name="anna")
    events = Events(worker, "active", "completed")
    await queue.add()
    job = await worker.getNextJob(TOKEN)
    assert (job.id, job.data, job.token, job.processedBy) == ("j0", {"i": 0}, TOKEN, "anna")
    assert await queue.lock("j0") == TOKEN
    assert await job.moveToCompleted({"n": 1}, TOKEN) is None
    assert await queue.counts() == {"completed": 1}
    done = await queue.job("j0")
    assert (done["returnvalue"], done["atm"], job.attemptsMade) == ('{"n":1}', "1", 1)
    assert await queue.lock("j0") is None
    # As in Node, only the claim is an event of the worker.
    assert [name for name, _ in events.seen] == ["active"]


async def test_a_failure_by_hand_is_tried_again_as_attempts_and_backoff_say(
    queue: Inspector, start_worker: StartWorker
) -> None:
    worker: Any = start_worker(None)
    await queue.add(attempts=2, backoff=30)
    first = await worker.get_next_job(TOKEN)
    await first.move_to_failed(ValueError("no"), TOKEN)
    assert await queue.counts() == {"delayed": 1}

    async def again() -> Any:
        return await worker.get_next_job(TOKEN)

    second = await eventually(again)
    assert (second.attempts_made, second.failed_reason) == (1, "no")
    await second.move_to_failed(UnrecoverableError("never"))
    assert await queue.counts() == {"failed": 1}
    job = await queue.job("j0")
    assert (job["failedReason"], job["atm"]) == ("never", "2")


async def test_an_ending_can_bring_the_next_job(
    queue: Inspector, start_worker: StartWorker
) -> None:
    worker: Any = start_worker(None)
    await queue.add(2)
    first = await worker.get_next_job(TOKEN)
    fetchNext = True  # noqa: N806 - Node's name of the third argument
    data, job_id, *limits = await first.moveToCompleted("one", TOKEN, fetchNext)
    second = worker.nextJobFromJobData(data, job_id, *limits, TOKEN)
    assert (second.id, second.data) == ("j1", {"i": 1})
    assert await queue.lock("j1") == TOKEN
    assert await second.moveToCompleted("two", TOKEN, fetchNext) == (None, None, 0, 0)
    assert await queue.counts() == {"completed": 2}


async def test_locks_of_manual_jobs_are_kept_by_extending_them(
    queue: Inspector, start_worker: StartWorker
) -> None:
    worker: Any = start_worker(None, lockDuration=5000)
    await queue.add()
    job = await worker.get_next_job(TOKEN)
    assert await job.extendLock(TOKEN, 60_000)
    assert await queue.client.pttl(queue.keys.lock("j0")) > 50_000
    assert not await job.extend_lock("somebody else's", 90_000)
    assert await queue.client.pttl(queue.keys.lock("j0")) <= 60_000


async def test_a_job_whose_lock_is_somebody_elses_cannot_be_ended(
    queue: Inspector, start_worker: StartWorker
) -> None:
    worker: Any = start_worker(None)
    events = Events(worker, "error")
    await queue.add(attempts=3)
    job = await worker.get_next_job(TOKEN)
    await queue.client.set(queue.keys.lock("j0"), "somebody else's")
    before = await queue.job("j0")
    with pytest.raises(JobNotHeld):
        await job.move_to_completed("mine")
    with pytest.raises(JobNotHeld):
        await job.move_to_failed(ValueError("mine"))
    assert await queue.job("j0") == before
    assert len(events.seen) == 2


async def test_manual_jobs_can_put_themselves_off_and_give_themselves_back(
    queue: Inspector, start_worker: StartWorker
) -> None:
    worker: Any = start_worker(None)
    await queue.add()
    job = await worker.get_next_job(TOKEN)
    await job.move_to_wait(TOKEN)
    assert await queue.counts() == {"waiting": 1}
    job = await worker.get_next_job(TOKEN)
    await job.move_to_delayed(int(time.time() * 1000) + 60_000, TOKEN)
    assert await queue.counts() == {"delayed": 1}
    assert (await queue.job("j0"))["ats"] == "2"


async def test_an_empty_queue_is_said_at_once_and_then_waited_for(
    queue: Inspector, start_worker: StartWorker
) -> None:
    worker: Any = start_worker(None, drainDelay=20)
    assert await worker.get_next_job(TOKEN) is None
    assert await worker.get_next_job(TOKEN, block=False) is None
    waiting = asyncio.create_task(worker.get_next_job(TOKEN))
    await eventually(queue.blocked)
    added = time.monotonic()
    await queue.add()
    job = await asyncio.wait_for(waiting, 5)
    assert job.id == "j0"
    assert time.monotonic() - added < 1


async def test_a_wait_by_hand_ends_with_the_drain_delay_pause_and_close(
    queue: Inspector, start_worker: StartWorker
) -> None:
    short: Any = start_worker(None, drainDelay=0.05)
    assert await short.get_next_job(TOKEN) is None
    assert await asyncio.wait_for(short.get_next_job(TOKEN), 5) is None
    for end in ("pause", "close"):
        worker: Any = start_worker(None, drainDelay=30)
        assert await worker.get_next_job(TOKEN) is None
        waiting = asyncio.create_task(worker.get_next_job(TOKEN))
        await eventually(queue.blocked)
        await getattr(worker, end)()
        assert await asyncio.wait_for(waiting, 2) is None
        assert await worker.get_next_job(TOKEN) is None
        await worker.close()


async def test_a_lost_reply_to_a_claim_by_hand_loses_no_job(
    queue: Inspector, start_worker: StartWorker, redis_url: str
) -> None:
    # Another worker of the same token: its jobs are its own.
    other: Any = start_worker(None)
    await queue.add(2)
    assert (await other.get_next_job(TOKEN)).id == "j0"
    async with TcpProxy(redis_url) as proxy:
        worker: Any = start_worker(None, connection=proxy.url)
        await worker.wait_until_ready()
        proxy.cut_on_next_reply()
        job = await worker.get_next_job(TOKEN)
        assert job.id == "j1"
        proxy.cut_on_next_reply()
        await job.move_to_completed("done")
        await worker.close()
    done = await queue.job("j1")
    assert (done["ats"], done["atm"], done.get("stc")) == ("1", "1", None)
    assert await queue.counts() == {"active": 1, "completed": 1}


async def test_a_job_that_comes_after_its_caller_has_gone_goes_back(
    queue: Inspector, start_worker: StartWorker, redis_url: str
) -> None:
    async with TcpProxy(redis_url) as proxy:
        worker: Any = start_worker(None, connection=proxy.url)
        await worker.wait_until_ready()
        await queue.add()
        proxy.hold_replies()
        claiming = asyncio.create_task(worker.get_next_job(TOKEN))
        await eventually(lambda: queue.has(active=1))
        claiming.cancel()
        await asyncio.wait([claiming])
        proxy.pass_all()
        await eventually(lambda: queue.has(waiting=1))
        await worker.close()
    assert (await queue.job("j0")).get("atm") is None


async def test_closing_ends_what_waits_for_a_redis_that_is_away(
    queue: Inspector, start_worker: StartWorker, redis_url: str
) -> None:
    async with TcpProxy(redis_url) as proxy:
        worker: Any = start_worker(None, connection=proxy.url)
        await queue.add()
        job = await worker.get_next_job(TOKEN)
        proxy.refuse()
        ending = asyncio.create_task(job.move_to_completed("done"))
        claiming = asyncio.create_task(worker.get_next_job(TOKEN))
        await asyncio.wait([ending], timeout=0)
        await worker.close(force=True)
        with pytest.raises(RedisAway):
            await ending
        assert await claiming is None


async def test_stalled_jobs_are_returned_in_manual_mode_when_that_is_started(
    queue: Inspector, start_worker: StartWorker
) -> None:
    await queue.add()
    await queue.client.rpoplpush(queue.keys.of("wait"), queue.keys.of("active"))
    await queue.client.sadd(queue.keys.of("stalled"), "j0")
    worker: Any = start_worker(None)
    events = Events(worker, "stalled")
    worker.startStalledCheckTimer()
    await eventually(lambda: events.of("stalled") == [("j0", "active")])
    assert (await worker.get_next_job(TOKEN)).stalled_counter == 1


async def test_data_that_is_no_json_fails_its_job_instead_of_the_caller(
    queue: Inspector, start_worker: StartWorker
) -> None:
    worker: Any = start_worker(None)
    await queue.add()
    await queue.client.hset(queue.keys.job("j0"), "data", "{broken")
    assert await worker.get_next_job(TOKEN) is None
    assert await queue.counts() == {"failed": 1}


async def test_a_worker_has_either_a_processor_or_manual_jobs(
    queue: Inspector, start_worker: StartWorker, redis_url: str
) -> None:
    refused: list[Exception] = []

    async def process(job: Job, token: str) -> None:
        try:
            await job.move_to_completed("by hand", token)
        except RuntimeError as error:
            refused.append(error)

    worker: Any = start_worker(process)
    await queue.add()
    await eventually(lambda: queue.has(completed=1))
    assert "a processor ends its job" in str(refused[0])
    with pytest.raises(RuntimeError, match="has a processor"):
        await worker.get_next_job(TOKEN)
    manual = Worker(QUEUE, None, {"connection": redis_url})
    with pytest.raises(RuntimeError, match="No process function"):
        await manual.run()


async def test_what_a_node_worker_can_do_and_this_one_cannot_is_refused_by_name(
    queue: Inspector, start_worker: StartWorker
) -> None:
    worker: Any = start_worker(None)
    with pytest.raises(UnsupportedOption, match=r"Worker\.jobScheduler"):
        worker.jobScheduler()
    await queue.add()
    job = await worker.get_next_job(TOKEN)
    with pytest.raises(UnsupportedOption, match=r"Job\.waitUntilFinished"):
        await job.waitUntilFinished(None)
    with pytest.raises(AttributeError):
        _ = worker.nobodyKnows
