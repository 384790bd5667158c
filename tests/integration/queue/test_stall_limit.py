"""Jobs that stalled too often: they fail as in Node, unless somebody else counts their deaths."""

from __future__ import annotations

from campaign_worker.queue import Job
from campaign_worker.queue.writer import STALLED_TOO_OFTEN
from tests.integration.queue.conftest import Inspector, StartWorker
from tests.support import eventually


async def condemned(queue: Inspector, word: str) -> None:
    """Add a job of which something before us said that it is to fail."""
    await queue.add(1)
    await queue.client.hset(queue.keys.job("j0"), "defa", word)


async def test_as_in_node_a_job_that_stalled_too_often_fails_without_being_run(
    queue: Inspector, start_worker: StartWorker
) -> None:
    ran: list[str] = []

    async def process(job: Job, token: str) -> None:
        ran.append(job.id)

    await condemned(queue, STALLED_TOO_OFTEN)
    start_worker(process)
    await eventually(lambda: over(queue, "failed"))
    assert (await queue.job("j0"))["failedReason"] == STALLED_TOO_OFTEN
    assert ran == []


async def test_with_ignore_stall_limit_it_runs_and_nothing_is_held_against_it(
    queue: Inspector, start_worker: StartWorker
) -> None:
    seen: list[dict[str, str]] = []

    async def process(job: Job, token: str) -> None:
        seen.append(await queue.job(job.id))

    await condemned(queue, STALLED_TOO_OFTEN)
    start_worker(process, ignoreStallLimit=True)
    await eventually(lambda: over(queue, "completed"))
    assert ["defa" in one for one in seen] == [False]


async def test_another_deferred_failure_is_obeyed_all_the_same(
    queue: Inspector, start_worker: StartWorker
) -> None:
    async def process(job: Job, token: str) -> None:
        raise AssertionError("must not run")

    await condemned(queue, "child bull:other:1 failed")
    start_worker(process, ignoreStallLimit=True)
    await eventually(lambda: over(queue, "failed"))
    assert (await queue.job("j0"))["failedReason"] == "child bull:other:1 failed"


async def over(queue: Inspector, state: str) -> bool:
    return await queue.counts() == {state: 1}
