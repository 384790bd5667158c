"""What a job may be asked and told beside its run, and what is refused."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from campaign_worker.errors import JobGone, JobRefused, RedisAway
from campaign_worker.queue import Job, WaitingChildrenError
from tests.integration.queue.conftest import Events, Inspector, StartWorker
from tests.support import eventually

TOKEN = "t:1"


@pytest.fixture
async def job(queue: Inspector, start_worker: StartWorker) -> Any:
    """Return an active job, claimed by hand."""
    await queue.add()
    found = await start_worker(None).get_next_job(TOKEN)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (("remove",), "is locked by a worker"),
        (("promote",), "is not delayed"),
        (("changeDelay", 5), "is not delayed"),
        (("retry",), "is not failed"),
        (("retry", "completed"), "is not completed"),
    ],
)
async def test_what_an_active_job_cannot_do_is_refused(
    queue: Inspector, job: Any, call: tuple[Any, ...], problem: str
) -> None:
    name, *arguments = call
    with pytest.raises(JobRefused, match=problem) as refused:
        await getattr(job, name)(*arguments)
    assert refused.value.job_id == "j0"
    assert await queue.counts() == {"active": 1}


async def test_a_job_that_is_gone_is_told_apart(queue: Inspector, job: Any) -> None:
    await queue.client.delete(queue.keys.job("j0"))
    job.parent_key = "somebody"
    for call in (
        job.changeDelay(5),
        job.changePriority({"priority": 2}),
        job.retry(),
        job.removeChildDependency(),
        job.moveToWaitingChildren(TOKEN),
    ):
        with pytest.raises(JobGone):
            await call
    assert await job.getState() == "active"


async def test_a_parent_that_is_gone_is_named(job: Any) -> None:
    job.parent_key = "bull:other:parent"
    with pytest.raises(JobRefused, match="bull:other:parent"):
        await job.removeChildDependency()


async def test_the_next_job_of_a_scheduler_cannot_be_removed(queue: Inspector, job: Any) -> None:
    await queue.client.hset(queue.keys.job("j0"), "rjk", "news")
    await queue.client.zadd(queue.keys.of("repeat"), {"news": 17})
    await queue.client.hset(queue.keys.job("repeat:news:17"), "rjk", "news")
    job.id = "repeat:news:17"
    with pytest.raises(JobRefused, match="job scheduler"):
        await job.remove()


async def test_children_come_a_page_at_a_time(queue: Inspector, job: Any) -> None:
    key = queue.keys.job("j0")
    for n in range(300):
        await queue.client.hset(f"{key}:processed", f"bull:q:{n}", f'{{"n":{n}}}')
    await queue.client.zadd(f"{key}:unsuccessful", {f"bull:q:{n}": n for n in range(7)})
    seen: dict[str, Any] = {}
    cursor = 0
    while True:
        page = await job.getDependencies({"processed": {"cursor": cursor, "count": 50}})
        seen |= page["processed"]
        cursor = page["nextProcessedCursor"]
        if cursor == 0:
            break
    assert seen == {f"bull:q:{n}": {"n": n} for n in range(300)}
    page = await job.getDependencies({"failed": {"cursor": 5, "count": 5}})
    assert page == {"failed": ["bull:q:5", "bull:q:6"], "nextFailedCursor": 10}
    counts = await job.getDependenciesCount()
    assert counts == {"processed": 300, "unprocessed": 0, "ignored": 0, "failed": 7}


async def test_a_job_claimed_by_hand_may_wait_for_its_children(queue: Inspector, job: Any) -> None:
    assert await job.moveToWaitingChildren(TOKEN) is False
    await queue.client.sadd(f"{queue.keys.job('j0')}:dependencies", "bull:q:child")
    assert await job.moveToWaitingChildren(TOKEN) is True
    assert await job.isWaitingChildren()
    assert await queue.lock("j0") is None


async def test_a_job_that_goes_back_is_told_how_long_the_queue_is_limited(
    queue: Inspector, start_worker: StartWorker, job: Any
) -> None:
    worker = start_worker(None)
    await worker.wait_until_ready()
    await worker.rate_limit(9000)
    assert 0 < await job.moveToWait(TOKEN) <= 9000
    assert await queue.counts() == {"waiting": 1}


async def test_a_listener_may_retry_a_failed_job_and_ask_where_it_is(
    queue: Inspector, start_worker: StartWorker
) -> None:
    async def process(job: Job, token: str) -> str:
        if job.attempts_started == 1:
            raise ValueError("once")
        return "done"

    worker = start_worker(process)
    failed = Events(worker, "failed")
    [job_id] = await queue.add()
    await eventually(lambda: failed.seen)
    job = failed.of("failed")[0][0]
    assert await job.is_failed()
    await job.retry("failed", {"resetAttemptsMade": True, "resetAttemptsStarted": False})
    assert (job.failed_reason, job.attempts_made, job.attempts_started) == (None, 0, 1)
    await eventually(lambda: queue.has(completed=1))
    assert await job.get_state() == "completed"
    assert (await queue.job(job_id))["atm"] == "1"
    await job.remove()
    assert await job.get_state() == "unknown"


async def test_a_child_that_must_not_fail_and_has_fails_the_parent_that_waits_for_it(
    queue: Inspector, start_worker: StartWorker
) -> None:
    async def process(job: Job, token: str) -> None:
        if await job.move_to_waiting_children(token):
            raise WaitingChildrenError

    worker = start_worker(process)
    worker.hold("test")
    await queue.add(attempts=5)
    await queue.client.zadd(f"{queue.keys.job('j0')}:unsuccessful", {"bull:q:bad": 1})
    worker.release("test")
    await eventually(lambda: queue.has(failed=1))
    job = await queue.job("j0")
    assert job["failedReason"] == (
        "Cannot complete job j0 because it has at least one failed child. moveToWaitingChildren"
    )
    assert job["ats"] == "1"


async def test_a_question_when_the_worker_is_closed_has_an_end(
    queue: Inspector, start_worker: StartWorker
) -> None:
    await queue.add()
    worker = start_worker(None)
    job = await worker.get_next_job(TOKEN)
    assert job is not None
    await worker.close()
    async with asyncio.timeout(5):
        with pytest.raises(RedisAway):
            await job.get_state()
