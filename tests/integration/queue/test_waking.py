"""An idle worker wakes for every job, whatever became of the marker, and asks for no more."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from campaign_worker.queue import ConnectionSpec, Job, JobSpec, Worker
from campaign_worker.queue.home import Home
from campaign_worker.queue.scripts import load_scripts
from tests.integration.queue.conftest import QUEUE, Inspector, Ran, StartWorker
from tests.support import TcpProxy, eventually

HOUR_MS = 3_600_000
#: Well below the five seconds (`drainDelay`) after which a worker looks by itself.
SOON_SECONDS = 2.0


@contextlib.asynccontextmanager
async def commands(queue: Inspector) -> AsyncIterator[Counter[str]]:
    """Count what clients send meanwhile, the scripts among it by their names."""
    names = {script.sha: name for name, script in load_scripts().items()}
    counted: Counter[str] = Counter()
    begun = asyncio.Event()
    async with queue.client.monitor() as monitor:

        async def listen() -> None:
            begun.set()
            async for sent in monitor.listen():
                words = sent["command"].split()
                if sent["client_type"] != "lua" and words:
                    name = words[0].upper()
                    counted[names.get(words[1], name) if name == "EVALSHA" else name] += 1

        listening = asyncio.create_task(listen())
        await begun.wait()
        try:
            yield counted
        finally:
            listening.cancel()
            await asyncio.wait([listening])


@pytest.mark.parametrize("added", ["delayed first", "delayed while idle"])
async def test_a_job_that_is_due_much_later_keeps_no_worker_asleep(
    queue: Inspector, start_worker: StartWorker, ran: Ran, added: str
) -> None:
    late = JobSpec("mail", {}, "late", delay_ms=HOUR_MS)
    if added == "delayed first":
        await queue.producer.add_many([late])
    start_worker(ran, drainDelay=30)
    await eventually(queue.blocked)
    await queue.producer.add_many([late])
    for job_id in ("one", "two"):
        # Its marker says when the late job is due, and is used up before the next one comes.
        await eventually(lambda: _no_marker(queue))
        await eventually(queue.blocked)
        await queue.producer.add("mail", {}, job_id=job_id)
        await eventually(lambda job_id=job_id: ran.ids[-1:] == [job_id], SOON_SECONDS)
    assert await queue.counts() == {"completed": 2, "delayed": 1}


async def test_a_job_that_is_due_sooner_than_the_one_that_is_known_is_in_time(
    queue: Inspector, start_worker: StartWorker, ran: Ran
) -> None:
    await queue.producer.add("mail", {}, job_id="late", delay_ms=HOUR_MS)
    start_worker(ran, drainDelay=30)
    await eventually(queue.blocked)
    await queue.producer.add("mail", {}, job_id="soon", delay_ms=150)
    await eventually(lambda: ran.ids == ["soon"], SOON_SECONDS)


async def test_jobs_are_found_without_their_markers(
    queue: Inspector, start_worker: StartWorker, ran: Ran
) -> None:
    start_worker(ran, drainDelay=0.2)
    await eventually(queue.blocked)
    pipeline: Any = queue.client.pipeline()
    pipeline.hset(queue.keys.job("mute"), mapping={"name": "mail", "data": "{}", "opts": "{}"})
    pipeline.hset(queue.keys.job("mute"), mapping={"timestamp": 1, "delay": 0, "priority": 0})
    pipeline.lpush(queue.keys.of("wait"), "mute")
    await pipeline.execute()
    await eventually(lambda: ran.ids == ["mute"])


async def test_a_block_that_never_ends_is_ended(
    queue: Inspector, start_worker: StartWorker, ran: Ran, redis_url: str
) -> None:
    async with TcpProxy(redis_url) as proxy:
        worker = start_worker(ran, connection=proxy.url, drainDelay=0.3)
        await eventually(queue.blocked)
        proxy.drop_replies()

        async def over() -> bool:
            return not await queue.blocked()

        await eventually(over)
        # Redis has answered, and nobody has heard it.
        proxy.pass_all()
        await queue.add()
        await eventually(lambda: ran.ids == ["j0"])
        await eventually(queue.blocked)
        await worker.close()


async def test_a_blocking_connection_that_is_killed_comes_back(
    queue: Inspector, start_worker: StartWorker, ran: Ran
) -> None:
    start_worker(ran, drainDelay=30)
    for number in range(3):
        await eventually(queue.blocked)
        (client,) = [one for one in await queue.client.client_list() if "b" in one["flags"]]
        assert await queue.client.client_kill_filter(_id=client["id"]) == 1
        await queue.producer.add("mail", {}, job_id=f"k{number}")
        await eventually(lambda number=number: len(ran.ids) == number + 1, SOON_SECONDS)
    assert ran.ids == ["k0", "k1", "k2"]


async def test_no_more_claims_than_jobs_and_two(
    queue: Inspector, start_worker: StartWorker, ran: Ran
) -> None:
    await queue.add(20)
    async with commands(queue) as sent:
        start_worker(ran, drainDelay=30)
        await eventually(lambda: len(ran.ids) == 20)
        await eventually(queue.blocked)
        await eventually(lambda: sent["moveToFinished"] == 20)
    assert sent["moveToActive"] <= 22
    assert sent["BZPOPMIN"] <= 3


async def test_no_more_claims_than_slots_and_one_while_all_are_busy(
    queue: Inspector, start_worker: StartWorker
) -> None:
    gate = asyncio.Event()

    async def process(job: Job, token: str) -> None:
        await gate.wait()

    await queue.add(20)
    async with commands(queue) as sent:
        worker = start_worker(process, concurrency=5)
        await eventually(lambda: worker.active_jobs == 5)
        await queue.producer.add("mail", {}, job_id="more")
        await eventually(lambda: sent["EVALSHA"] + sent["EVAL"] + sent["addStandardJob"] > 0)
    assert sent["moveToActive"] <= 6
    gate.set()


async def test_an_idle_worker_asks_redis_hardly_anything(
    queue: Inspector, start_worker: StartWorker, ran: Ran
) -> None:
    start_worker(ran, drainDelay=30)
    await eventually(queue.blocked)
    begun = time.monotonic()
    async with commands(queue) as sent:
        await eventually(lambda: time.monotonic() - begun > 1)
    assert sent["moveToActive"] <= 1
    # Beside the monitor's own PING or so.
    assert sent.total() < 10


async def test_a_worker_that_is_idle_pauses_at_once_and_takes_no_marker_with_it(
    queue: Inspector, start_worker: StartWorker, ran: Ran
) -> None:
    other = Ran()
    worker = start_worker(ran, drainDelay=30)
    await eventually(queue.blocked)
    await asyncio.wait_for(worker.pause(), SOON_SECONDS)
    start_worker(other, drainDelay=30)
    await eventually(queue.blocked)
    await queue.add()
    await eventually(lambda: other.ids == ["j0"], SOON_SECONDS)
    assert ran.ids == []


async def test_a_marker_that_is_lost_with_its_connection_keeps_nobody_asleep(
    queue: Inspector, start_worker: StartWorker, redis_url: str, ran: Ran
) -> None:
    await queue.client.hset(queue.keys.of("meta"), "version", "bullmq:6.7.0")
    async with TcpProxy(redis_url) as proxy:
        start_worker(ran, connection=proxy.url, drainDelay=30)
        await eventually(queue.blocked)
        proxy.cut_on_next_reply()
        await queue.add()
        await eventually(lambda: ran.ids == ["j0"], SOON_SECONDS)


@pytest.mark.parametrize("delay_ms", [0, 300])
async def test_an_answer_from_before_a_wake_up_puts_nobody_to_sleep(
    queue: Inspector, redis_url: str, prefix: str, ran: Ran, delay_ms: int
) -> None:
    # Else it would look every second, as for producers that wake nobody.
    await queue.client.hset(queue.keys.of("meta"), "version", "bullmq:6.7.0")
    async with TcpProxy(redis_url) as proxy:
        opts = {"connection": proxy.url, "prefix": prefix, "drainDelay": 30, "autorun": False}
        worker = Worker(QUEUE, ran, opts)
        engine = worker._engine
        # Its two connections are not equally fast: replies to claims come late.
        engine.blocker._home = Home(ConnectionSpec.of(redis_url), queue.keys)
        running = asyncio.create_task(worker.run())
        await eventually(queue.blocked)
        proxy.hold_replies()
        # Between two blocks it looks by itself, and finds nothing.
        engine.intake.poke()
        await proxy.held_reply.wait()
        await queue.producer.add("mail", {}, job_id="j0", delay_ms=delay_ms)
        await eventually(lambda: not engine.blocker.blocking)
        proxy.pass_all()
        await eventually(lambda: ran.ids == ["j0"], SOON_SECONDS)
        await worker.close()
        await running


async def _no_marker(queue: Inspector) -> bool:
    return not await queue.client.exists(queue.keys.of("marker"))
