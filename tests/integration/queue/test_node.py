"""Beside real Node: queues that bullmq 4, 5 and 6 fill, pause, resume and read."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.fixtures.node import connection_of
from tests.integration.queue.conftest import Inspector, StartWorker
from tests.support import eventually

if TYPE_CHECKING:
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


async def _promoted(queue: Inspector) -> bool:
    counts = await queue.counts()
    return "delayed" not in counts and "active" not in counts


async def _completed(queue: Inspector, count: int) -> bool:
    return (await queue.counts()).get("completed") == count
