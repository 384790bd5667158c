"""Beside real Node: queues that bullmq 4, 5 and 6 fill, pause, resume and read."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from campaign_worker.errors import NoNextIteration
from tests.fixtures.node import connection_of
from tests.integration.queue.conftest import Events, Inspector, StartWorker
from tests.support import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from campaign_worker.queue import Job
    from tests.fixtures.node import NodeBullMQ

pytestmark = pytest.mark.node

PAUSED = """
const { Queue } = require('bullmq');
const { connection, prefix, action } = JSON.parse(process.env.INPUT);
(async () => {
  const queue = new Queue('mails', { connection, prefix });
  if (action === 'fill') {
    await queue.add('retried', {}, { jobId: 'retried', attempts: 2 });
    await queue.add('given-back', {}, { jobId: 'given-back' });
    await queue.add('late', {}, { jobId: 'late', delay: 700 });
  } else {
    await queue[action]();
  }
  await queue.close();
  console.log('{}');
})();
"""
ADD_AND_READ = """
const { Queue, QueueEvents } = require('bullmq');
const { connection, prefix } = JSON.parse(process.env.INPUT);
(async () => {
  const queue = new Queue('mails', { connection, prefix });
  const events = new QueueEvents('mails', { connection, prefix });
  await events.waitUntilReady();
  // QueueEvents is ready before it reads: a job that is done at once would escape it.
  const started = Date.now();
  const good = await queue.add('mail', { n: 1 }, { delay: 300 });
  const value = await good.waitUntilFinished(events, 10000);
  const took = Date.now() - started;
  const bad = await queue.add('bad', {}, { delay: 50 });
  const reason = await bad.waitUntilFinished(events, 10000).catch(error => error.message);
  const state = await (await queue.getJob(good.id)).getState();
  const workers = (await queue.getWorkers()).length;
  console.log(JSON.stringify({ value, reason, state, took, workers }));
  await events.close();
  await queue.close();
})();
"""

ADD = """
const { Queue } = require('bullmq');
const { connection, prefix } = JSON.parse(process.env.INPUT);
(async () => {
  const queue = new Queue('mails', { connection, prefix });
  await queue.waitUntilReady();
  for (const [jobId, opts] of [['plain', {}], ['urgent', { priority: 3 }]]) {
    await queue.add('mail', {}, { jobId, ...opts });
    await new Promise(resolve => setTimeout(resolve, 1500));
  }
  await queue.close();
  console.log('{}');
})();
"""
REPEAT = """
const { Queue } = require('bullmq');
const { connection, prefix } = JSON.parse(process.env.INPUT);
(async () => {
  const queue = new Queue('mails', { connection, prefix });
  await queue.add('nightly', {}, { repeat: { every: 200 } });
  await queue.close();
  console.log('{}');
})();
"""


async def test_an_idle_worker_sees_the_first_job_of_an_app_that_comes_later(
    queue: Inspector, start_worker: StartWorker, redis_url: str, prefix: str, bullmq: NodeBullMQ
) -> None:
    async def process(job: Job, token: str) -> None:
        return None

    drained = asyncio.Event()
    worker = start_worker(process, drainDelay=30)
    worker.on("drained", drained.set)
    await asyncio.wait_for(drained.wait(), 5)
    await bullmq.run(ADD, {"connection": connection_of(redis_url), "prefix": prefix})
    await eventually(lambda: _completed(queue, 2))
    for job_id in ("plain", "urgent"):
        job = await queue.job(job_id)
        waited_ms = int(job["processedOn"]) - int(job["timestamp"])
        # bullmq 4 has no marker: nothing wakes the worker but its own look at the queue.
        assert waited_ms < (1000 if bullmq.major == 4 else 250), job_id


async def test_a_repeatable_job_of_the_old_kind_runs_and_is_named_once(
    queue: Inspector,
    start_worker: StartWorker,
    redis_url: str,
    prefix: str,
    node_bullmq: Callable[[int], NodeBullMQ],
) -> None:
    async def process(job: Job, token: str) -> None:
        return None

    worker = start_worker(process)
    events = Events(worker, "error")
    bullmq = node_bullmq(4)
    await bullmq.run(REPEAT, {"connection": connection_of(redis_url), "prefix": prefix})
    await eventually(lambda: _completed(queue, 1))
    [(error,)] = events.of("error")
    assert isinstance(error, NoNextIteration)
    assert error.scheduler.startswith("nightly:")
    assert error.job_id in str(error)


async def test_nothing_is_lost_on_a_queue_that_is_paused_and_resumed_by_any_version(
    queue: Inspector, start_worker: StartWorker, redis_url: str, prefix: str, bullmq: NodeBullMQ
) -> None:
    data = {"connection": connection_of(redis_url), "prefix": prefix}
    gate = asyncio.Event()
    started: set[str] = set()

    async def process(job: Job, token: str) -> str:
        first = job.id not in started
        started.add(job.id)
        await gate.wait()
        if job.id == "retried" and first:
            raise ValueError("once")
        return "done"

    worker = start_worker(process, concurrency=2)
    await bullmq.run(PAUSED, data | {"action": "fill"})
    await eventually(lambda: started == {"retried", "given-back"})
    await bullmq.run(PAUSED, data | {"action": "pause"})
    given_back = next(a for a in worker._engine.slots.active.values() if a.job.id == "given-back")
    await worker._engine.slots.hand_back_now(given_back, "test")
    gate.set()
    # The delayed job falls due while the queue is paused; any claim promotes it.
    await eventually(lambda: _promoted(queue), 10)
    assert "completed" not in await queue.counts()
    await bullmq.run(PAUSED, data | {"action": "resume"})
    await eventually(lambda: _completed(queue, 3), 10)


async def test_node_reads_what_we_leave_and_finds_the_worker(
    queue: Inspector, start_worker: StartWorker, redis_url: str, prefix: str, bullmq: NodeBullMQ
) -> None:
    async def process(job: Job, token: str) -> dict[str, int]:
        if job.name == "bad":
            raise ValueError('grüße aus "Köln"')
        return {"n": 2}

    data = {"connection": connection_of(redis_url), "prefix": prefix}
    # The app was there first: its version stands in the queue's meta.
    await bullmq.run(PAUSED, data | {"action": "resume"})
    worker = start_worker(process)
    await worker.wait_until_ready()
    (seen,) = await bullmq.run(ADD_AND_READ, data)
    took = seen.pop("took")
    assert seen == {
        "value": {"n": 2},
        "reason": 'grüße aus "Köln"',
        "state": "completed",
        "workers": 1,
    }
    # bullmq 4 has no marker: its jobs are found by looking, once a second.
    assert took < (2000 if bullmq.major == 4 else 700)


async def test_a_worker_is_found_again_after_it_has_lost_its_connections(
    queue: Inspector, start_worker: StartWorker
) -> None:
    async def process(job: Job, token: str) -> None:
        return None

    async def found() -> str:
        clients = await queue.client.client_list()
        name = queue.keys.client_name("w7")
        return "".join(str(each["id"]) for each in clients if each["name"] == name)

    start_worker(process, name="w7")
    before = await eventually(found)
    await queue.client.client_kill_filter(_id=before)
    assert await eventually(found) != before
    await queue.client.client_kill_filter(_type="normal", skipme=True)
    await eventually(found)
    await queue.add()
    await eventually(lambda: _completed(queue, 1))


async def _promoted(queue: Inspector) -> bool:
    counts = await queue.counts()
    return "delayed" not in counts and "active" not in counts


async def _completed(queue: Inspector, count: int) -> bool:
    return (await queue.counts()).get("completed") == count
