"""Delayed and urgent jobs: in which order and when they run, and what of them can be counted."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from campaign_worker.queue import Job, JobSpec
from tests.integration.queue.conftest import Events, Inspector, Ran, StartWorker
from tests.support import eventually

HOUR_MS = 3_600_000


async def test_jobs_run_one_after_another_with_one_slot_and_not_with_two(
    queue: Inspector, start_worker: StartWorker
) -> None:
    together: list[int] = []
    active = 0

    async def process(job: Job, token: str) -> None:
        nonlocal active
        active += 1
        together.append(active)
        for row in ("some", "round trips", "of work"):
            await job.log(row)
        active -= 1

    await queue.add(20)
    first = start_worker(process)
    await eventually(lambda: queue.has(completed=20))
    assert max(together) == 1
    await first.close()
    together.clear()
    await queue.producer.add_many([JobSpec("mail", i, f"k{i}") for i in range(20)])
    start_worker(process, concurrency=2)
    await eventually(lambda: queue.has(completed=40))
    assert max(together) == 2


async def test_a_slow_job_holds_up_no_other(queue: Inspector, start_worker: StartWorker) -> None:
    over = asyncio.Event()
    ended: list[str] = []

    async def process(job: Job, token: str) -> None:
        if job.id == "j0":
            await over.wait()
        ended.append(job.id)

    start_worker(process, concurrency=2)
    await queue.add(5)
    await eventually(lambda: len(ended) == 4)
    over.set()
    await eventually(lambda: queue.has(completed=5))
    assert ended == ["j1", "j2", "j3", "j4", "j0"]


async def test_jobs_that_are_due_at_one_moment_keep_their_order(
    queue: Inspector, start_worker: StartWorker, ran: Ran
) -> None:
    names = [f"d{number:02}" for number in range(40)]
    await queue.producer.add_many([JobSpec("mail", {}, name, delay_ms=50) for name in names])
    start_worker(ran)
    await eventually(lambda: len(ran.ids) == 40)
    stamps = {name: int((await queue.job(name))["timestamp"]) for name in names}
    assert ran.ids == sorted(names, key=lambda name: (stamps[name], name))


async def test_jobs_that_are_due_sooner_run_sooner(
    queue: Inspector, start_worker: StartWorker, ran: Ran
) -> None:
    delays = [210, 60, 160, 10, 110]
    await queue.producer.add_many([JobSpec("mail", {}, f"d{ms}", delay_ms=ms) for ms in delays])
    start_worker(ran)
    await eventually(lambda: len(ran.ids) == 5)
    assert ran.ids == ["d10", "d60", "d110", "d160", "d210"]


async def test_plain_jobs_come_before_a_delayed_one_that_is_not_due(
    queue: Inspector, start_worker: StartWorker, ran: Ran
) -> None:
    await queue.producer.add("mail", {}, job_id="late", delay_ms=HOUR_MS)
    await queue.add(3)
    start_worker(ran)
    await eventually(lambda: queue.has(completed=3, delayed=1))
    assert ran.ids == ["j0", "j1", "j2"]


async def test_jobs_that_fell_due_while_nobody_was_there_all_run(
    queue: Inspector, start_worker: StartWorker, ran: Ran
) -> None:
    count = 1200
    specs = [JobSpec("mail", {}, f"d{i}", delay_ms=1) for i in range(count)]
    await queue.producer.add_many(specs)
    last = int((await queue.job(f"d{count - 1}"))["timestamp"]) + 1
    await eventually(lambda: time.time() * 1000 > last + 5)
    # One claim promotes a thousand at most.
    start_worker(ran, concurrency=20, drainDelay=30)
    await eventually(lambda: queue.has(completed=count))
    assert len(set(ran.ids)) == count


async def test_a_delayed_job_with_a_priority_is_urgent_once_it_is_due(
    queue: Inspector, start_worker: StartWorker
) -> None:
    ran: list[str] = []
    gate = asyncio.Event()

    async def process(job: Job, token: str) -> None:
        ran.append(job.id)
        if job.id == "first":
            await gate.wait()

    start_worker(process)
    await queue.producer.add("mail", {}, job_id="first")
    await eventually(lambda: ran == ["first"])
    await queue.producer.add("mail", {}, job_id="less-urgent", opts={"priority": 5})
    await queue.producer.add("mail", {}, job_id="due", opts={"priority": 2}, delay_ms=20)
    due = int((await queue.job("due"))["timestamp"]) + 20
    await eventually(lambda: time.time() * 1000 > due + 5)
    gate.set()
    await eventually(lambda: len(ran) == 3)
    assert ran == ["first", "due", "less-urgent"]


async def test_jobs_of_one_priority_keep_their_order_and_plain_ones_come_first(
    queue: Inspector, start_worker: StartWorker, ran: Ran
) -> None:
    for number in range(4):
        await queue.producer.add("mail", {}, job_id=f"low{number}", opts={"priority": 9})
        await queue.producer.add("mail", {}, job_id=f"high{number}", opts={"priority": 1})
        await queue.producer.add("mail", {}, job_id=f"plain{number}")
    start_worker(ran)
    await eventually(lambda: len(ran.ids) == 12)
    assert ran.ids == [
        f"{kind}{number}" for kind in ("plain", "high", "low") for number in range(4)
    ]


async def test_the_counter_of_priorities_is_gone_with_the_last_urgent_job(
    queue: Inspector, start_worker: StartWorker, ran: Ran
) -> None:
    await queue.add(3, priority=4)
    assert await queue.client.get(queue.keys.of("pc")) == "3"
    start_worker(ran)
    await eventually(lambda: queue.has(completed=3))
    assert not await queue.client.exists(queue.keys.of("pc"))


async def test_finished_jobs_are_counted_by_the_minute_up_to_the_limit(
    queue: Inspector, start_worker: StartWorker
) -> None:
    async def process(job: Job, token: str) -> None:
        if job.data["i"] == 0:
            raise ValueError("no")

    completed = queue.keys.job("metrics:completed")
    # As if the last of seven jobs had ended five minutes ago, four of them in its minute.
    before = {"count": 7, "prevTS": int(time.time() * 1000) - 300_000, "prevCount": 3}
    await queue.client.hset(completed, mapping=before)
    start_worker(process, metrics={"maxDataPoints": 2})
    await queue.add(4)
    await eventually(lambda: queue.has(completed=3, failed=1))
    assert await queue.client.hget(completed, "count") == "10"
    assert await queue.client.hget(queue.keys.job("metrics:failed"), "count") == "1"
    assert await queue.client.lrange(f"{completed}:data", 0, -1) == ["0", "4"]


async def test_nothing_is_counted_without_metrics(
    queue: Inspector, start_worker: StartWorker, ran: Ran
) -> None:
    start_worker(ran)
    await queue.add(2)
    await eventually(lambda: queue.has(completed=2))
    assert not await queue.client.exists(queue.keys.job("metrics:completed"))


async def test_the_event_stream_is_trimmed_as_the_app_has_said(
    queue: Inspector, start_worker: StartWorker, ran: Ran
) -> None:
    # Redis trims whole nodes of its stream, a hundred entries each.
    await queue.client.hset(queue.keys.of("meta"), "opts.maxLenEvents", 0)
    start_worker(ran, concurrency=10)
    await queue.producer.add_many([JobSpec("mail", i, f"x{i}") for i in range(300)])
    await eventually(lambda: queue.has(completed=300))
    assert await queue.client.xlen(queue.keys.of("events")) < 300


async def test_drained_is_said_when_nothing_is_left_and_not_before(
    queue: Inspector, start_worker: StartWorker, ran: Ran
) -> None:
    worker: Any = start_worker(None)
    await queue.add(3, priority=2)
    await queue.producer.add("mail", {}, job_id="late", delay_ms=HOUR_MS)
    for left in (2, 1, 0):
        job = await worker.get_next_job("token")
        await job.move_to_completed("done", "token")
        told = [e["event"] for e in await queue.events()]
        assert told.count("drained") == (1 if left == 0 else 0)


async def test_listeners_are_told_the_value_itself(
    queue: Inspector, start_worker: StartWorker
) -> None:
    value = {"sent": True, "to": ["größer", None, 1.5]}

    async def process(job: Job, token: str) -> Any:
        await job.update_progress(value)
        return value

    worker = start_worker(process)
    events = Events(worker, "completed", "progress")
    await queue.add()
    await eventually(lambda: events.of("completed"))
    assert events.of("completed")[0][1] == value
    assert events.of("progress")[0][1] == value
