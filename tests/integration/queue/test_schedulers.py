"""Job schedulers: what follows a job, what ends a chain, and what a lost reply does to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from campaign_worker.errors import NoNextIteration
from campaign_worker.queue import Job
from tests.fixtures.node import NodeBullMQ, connection_of
from tests.integration.queue.conftest import Events, Inspector, StartWorker
from tests.support import TcpProxy, eventually

UPSERT = """
const { Queue } = require('bullmq');
const { connection, prefix, repeat } = JSON.parse(process.env.INPUT);
(async () => {
  const queue = new Queue('mails', { connection, prefix });
  await queue.upsertJobScheduler('news', repeat, { name: 'tick', data: { n: 1 } });
  await queue.close();
  console.log('{}');
})();
"""
YEARLY = {"pattern": "0 0 1 1 *", "immediately": True}


async def _process(job: Job, token: str) -> str:
    return "done"


Schedule = Callable[..., Any]


@pytest.fixture
def schedule(node_bullmq: Callable[[int], NodeBullMQ], redis_url: str, prefix: str) -> Schedule:
    """Return what lets an app of 6.x make the scheduler "news", given its repeat options."""

    async def make(repeat: dict[str, Any]) -> None:
        data = {"connection": connection_of(redis_url), "prefix": prefix, "repeat": repeat}
        await node_bullmq(6).run(UPSERT, data)

    return make


@pytest.mark.node
async def test_a_strategy_of_ones_own_says_when_a_pattern_is_due(
    queue: Inspector, start_worker: StartWorker, schedule: Schedule
) -> None:
    asked: list[tuple[str, str]] = []

    async def strategy(after_ms: int, repeat: dict[str, Any], name: str) -> int:
        asked.append((repeat["pattern"], name))
        return after_ms + 30

    await schedule(YEARLY | {"limit": 3})
    start_worker(_process, settings={"repeatStrategy": strategy})
    await eventually(lambda: queue.has(completed=3))
    assert asked == [("0 0 1 1 *", "tick")] * 2


@pytest.mark.node
async def test_a_job_claimed_by_hand_is_followed_by_the_next_one_too(
    queue: Inspector, start_worker: StartWorker, schedule: Schedule
) -> None:
    await schedule(YEARLY)
    worker = start_worker(None)
    job = await worker.get_next_job("t:1")
    assert job is not None
    assert await queue.counts() == {"active": 1, "delayed": 1}
    await job.move_to_completed("done")
    await queue.client.zadd(queue.keys.of("delayed"), {(await _next(queue)): 0})
    await queue.producer.add("mail", {}, job_id="before")
    other = await worker.get_next_job("t:1")
    assert other is not None
    following = await other.move_to_completed("done", fetch_next=True)
    assert following is not None
    assert str(following[1]).startswith("repeat:news:")
    # Two years from now.
    assert await queue.counts() == {"active": 1, "completed": 2, "delayed": 1}


@pytest.mark.parametrize(
    ("opts", "problem"),
    [
        ({"pattern": "61 * * * *"}, "repeat.pattern: minute must be 0-59, not '61'"),
        ({"pattern": "* * * * *", "tz": "Europe/Nowhere"}, "repeat.tz: unknown time zone"),
        ({"pattern": "* * * * *", "every": 9}, "either a pattern or an interval"),
        ({}, "either a pattern or an interval"),
        ({"pattern": "* * * * *", "endDate": "soon"}, "soon"),
    ],
)
async def test_a_schedule_that_nobody_can_follow_ends_with_an_error_and_its_job_runs(
    queue: Inspector, start_worker: StartWorker, opts: dict[str, Any], problem: str
) -> None:
    worker = start_worker(_process)
    worker.hold("test")
    events = Events(worker, "error")
    await queue.producer.add("tick", {}, job_id="j")
    await queue.client.hset(queue.keys.job("j"), "rjk", "news")
    await queue.client.hset(queue.keys.job("j"), "opts", json.dumps({"repeat": opts}))
    worker.release("test")
    await eventually(lambda: queue.has(completed=1))
    [(error,)] = events.of("error")
    assert isinstance(error, NoNextIteration)
    assert (error.job_id, error.scheduler) == ("j", "news")
    assert problem in str(error)


async def test_a_strategy_that_fails_ends_the_chain_and_not_the_job(
    queue: Inspector, start_worker: StartWorker
) -> None:
    def strategy(*_arguments: Any) -> int:
        raise RuntimeError("no idea")

    worker = start_worker(_process, settings={"repeatStrategy": strategy})
    worker.hold("test")
    events = Events(worker, "error")
    await queue.producer.add("tick", {}, job_id="j")
    await queue.client.hset(
        queue.keys.job("j"), mapping={"rjk": "news", "opts": '{"repeat":{"pattern":"x"}}'}
    )
    worker.release("test")
    await eventually(lambda: queue.has(completed=1))
    assert [str(error) for (error,) in events.of("error")] == [
        "no next iteration of 'news' follows job j: no idea"
    ]


@pytest.mark.node
async def test_a_lost_reply_neither_ends_a_chain_nor_doubles_it(
    queue: Inspector, start_worker: StartWorker, redis_url: str, schedule: Schedule
) -> None:
    await schedule(YEARLY)
    asked = 0

    async with TcpProxy(redis_url) as proxy:

        def strategy(after_ms: int, _repeat: dict[str, Any], _name: str) -> int:
            nonlocal asked
            asked += 1
            if asked == 1:
                # The script that is called next is executed, and nobody hears of it.
                proxy.cut_on_next_reply()
            return after_ms + 3_600_000

        worker = start_worker(_process, connection=proxy.url, settings={"repeatStrategy": strategy})
        await eventually(lambda: queue.has(completed=1, delayed=1), 10)
        await worker.close()
    assert asked == 2
    assert await queue.client.hget(f"{queue.keys.of('repeat')}:news", "ic") == "2"


@pytest.mark.node
async def test_a_close_does_not_wait_for_the_next_iteration_when_redis_is_away(
    start_worker: StartWorker, redis_url: str, schedule: Schedule
) -> None:
    await schedule(YEARLY)
    refused = asyncio.Event()

    async with TcpProxy(redis_url) as proxy:

        def strategy(after_ms: int, _repeat: dict[str, Any], _name: str) -> int:
            proxy.refuse()
            refused.set()
            return after_ms + 3_600_000

        worker = start_worker(_process, connection=proxy.url, settings={"repeatStrategy": strategy})
        await refused.wait()
        async with asyncio.timeout(9):
            await worker.close()
        assert worker.active_jobs == 0


async def _next(queue: Inspector) -> str:
    [job_id] = await queue.client.zrange(queue.keys.of("delayed"), 0, -1)
    return str(job_id)
