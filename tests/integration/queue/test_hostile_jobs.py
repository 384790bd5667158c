"""Jobs, errors and results that no sound app writes: each job ends at once all the same."""

from __future__ import annotations

from typing import Any

import pytest

from campaign_worker.queue import Deferred, Job, UnrecoverableError
from campaign_worker.queue.peek import waiting_jobs
from tests.integration.queue.conftest import QUEUE, Inspector, StartWorker
from tests.support import eventually

HUGE = 10**24


class MuteError(Exception):
    """Cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


class Mute:
    """A result that cannot be written."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


async def raises(_job: Job, _token: str) -> None:
    raise MuteError


async def returns(_job: Job, _token: str) -> Any:
    return Mute()


async def defers(_job: Job, _token: str) -> Any:
    return Deferred(float("inf"))  # type: ignore[arg-type]  # somebody's mistake


@pytest.mark.parametrize(
    ("processor", "said"),
    [
        (raises, "MuteError"),
        (returns, "no words"),
        (defers, "cannot convert float infinity to integer"),
    ],
)
async def test_what_cannot_say_what_it_is_fails_its_job(
    queue: Inspector, start_worker: StartWorker, processor: Any, said: str
) -> None:
    await queue.add(1)
    start_worker(processor)
    await eventually(lambda: queue.has(failed=1))
    assert (await queue.job("j0"))["failedReason"] == said


@pytest.mark.parametrize("ending", ["completed", "failed"])
@pytest.mark.parametrize(
    "opts",
    [
        '{"attempts":1e999}',
        f'{{"attempts":{HUGE}}}',
        '{"KEEP":1e999}',
        '{"KEEP":NaN}',
        f'{{"KEEP":{{"count":{HUGE},"age":1e999}}}}',
        '{"stackTraceLimit":1e999}',
    ],
)
async def test_a_number_in_a_jobs_options_that_no_script_can_be_given_keeps_it_from_nothing(
    queue: Inspector, start_worker: StartWorker, opts: str, ending: str
) -> None:
    async def process(_job: Job, _token: str) -> None:
        if ending == "failed":
            raise UnrecoverableError("no")

    option = "removeOnComplete" if ending == "completed" else "removeOnFail"
    await queue.add(1)
    await queue.client.hset(queue.keys.job("j0"), "opts", opts.replace("KEEP", option))
    start_worker(process)
    await eventually(lambda: queue.has(**{ending: 1}))


async def test_a_look_at_what_waits_sees_each_job_once_beside_the_marker_of_bullmq_4(
    queue: Inspector,
) -> None:
    await queue.client.lpush(queue.keys.of("wait"), "0:0")
    added = await queue.add(401)
    pages = waiting_jobs(queue.client, QUEUE, queue.keys.prefix, 1000)
    seen = [job.id async for page in pages for job in page if isinstance(job, Job)]
    assert seen == added
