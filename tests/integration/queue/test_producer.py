"""Adding, reviving and counting jobs."""

from __future__ import annotations

import json
import socket
import time
from typing import TYPE_CHECKING

import pytest

from campaign_worker.errors import RedisAway
from campaign_worker.queue import ConnectionSpec, Job, JobSpec, Producer
from tests.fixtures.node import connection_of
from tests.integration.queue.conftest import Inspector, StartWorker
from tests.support import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fixtures.node import NodeBullMQ

ADD_IN_NODE = """
const { Queue } = require('bullmq');
(async () => {
  const { connection, prefix } = JSON.parse(process.env.INPUT);
  const queue = new Queue('mails', { connection, prefix });
  await queue.add('mail', { to: 'Grüße' }, { jobId: 'n-plain', attempts: 3, backoff: 500 });
  await queue.add('mail', { to: 1 }, { jobId: 'n-late', delay: 60000 });
  await queue.add('mail', null, { jobId: 'n-high', priority: 3, removeOnComplete: true });
  await queue.close();
  console.log('{}');
})();
"""


async def test_a_job_id_is_added_once(queue: Inspector) -> None:
    first = await queue.producer.add("mail", {"a": 1}, job_id="m-1")
    second = await queue.producer.add("mail", {"a": 2}, job_id="m-1")
    counted = await queue.producer.add("mail", {})
    assert (first, second, counted) == ("m-1", "m-1", "3")
    assert (await queue.job("m-1"))["data"] == '{"a":1}'
    assert await queue.counts() == {"waiting": 2}


async def test_many_jobs_keep_their_order_and_states(queue: Inspector) -> None:
    specs = [JobSpec("mail", i, f"m{i}") for i in range(1200)]
    specs.append(JobSpec("mail", {}, "late", delay_ms=60_000))
    specs.append(JobSpec("mail", {}, "first", opts={"priority": 2}))
    ids = await queue.producer.add_many(specs)
    assert ids == [spec.job_id for spec in specs]
    waiting = await queue.client.lrange(queue.keys.of("wait"), 0, -1)
    assert waiting == [f"m{i}" for i in reversed(range(1200))]
    assert await queue.counts() == {"waiting": 1200, "delayed": 1, "prioritized": 1}


async def test_a_delayed_job_is_due_by_the_clock_of_redis(queue: Inspector) -> None:
    await queue.producer.add("mail", {}, job_id="late", delay_ms=60_000)
    score = await queue.client.zscore(queue.keys.of("delayed"), "late")
    assert score is not None
    assert abs(score / 4096 - (time.time() * 1000 + 60_000)) < 500


async def test_reviving_adds_what_is_absent_and_repeats_nothing_that_is_on_its_way(
    queue: Inspector,
) -> None:
    specs = [JobSpec("mail", {}, f"m{i}", delay_ms=60_000 * (i == 1)) for i in range(3)]
    assert await queue.producer.revive(specs) == ["added"] * 3
    assert await queue.producer.revive(specs) == ["untouched"] * 3
    await queue.client.rpoplpush(queue.keys.of("wait"), queue.keys.of("active"))
    assert await queue.producer.revive(specs) == ["untouched"] * 3
    assert await queue.counts() == {"waiting": 1, "active": 1, "delayed": 1}


async def test_reviving_brings_finished_and_lost_jobs_back(
    queue: Inspector, start_worker: StartWorker
) -> None:
    async def process(job: Job, token: str) -> None:
        if job.id == "bad":
            raise ValueError("no")

    worker = start_worker(process)
    specs = [JobSpec("mail", {}, "good"), JobSpec("mail", {}, "bad")]
    await queue.producer.add_many(specs)
    await eventually(lambda: queue.has(completed=1, failed=1))
    worker.hold("test")
    await queue.producer.add("mail", {}, job_id="lost")
    await queue.client.lrem(queue.keys.of("wait"), 0, "lost")
    specs.append(JobSpec("mail", {}, "lost"))
    assert await queue.producer.revive(specs) == ["reprocessed", "reprocessed", "requeued"]
    assert await queue.counts() == {"waiting": 3}
    bad = await queue.job("bad")
    assert not {"atm", "ats", "finishedOn", "failedReason"} & bad.keys()
    worker.release("test")
    await eventually(lambda: queue.has(completed=2, failed=1))


async def test_reviving_wakes_an_idle_worker(queue: Inspector, start_worker: StartWorker) -> None:
    ran: list[str] = []

    async def process(job: Job, token: str) -> None:
        ran.append(job.id)

    worker = start_worker(process)
    await queue.producer.add("mail", {}, job_id="again", opts={"priority": 1})
    await eventually(lambda: queue.has(completed=1))
    await eventually(lambda: worker._engine.blocker.blocking)
    revived = time.monotonic()
    await queue.producer.revive([JobSpec("mail", {}, "again")])
    await eventually(lambda: len(ran) == 2)
    assert time.monotonic() - revived < 0.5


async def test_a_redis_that_is_away_is_said_so(prefix: str) -> None:
    with socket.socket() as taken:
        # Bound and not listening: nobody else gets the port, and nobody answers on it.
        taken.bind(("127.0.0.1", 0))
        client = ConnectionSpec.of(f"redis://127.0.0.1:{taken.getsockname()[1]}").client()
        producer = Producer(client, "mails", prefix)
        for attempt in (producer.counts(), producer.add("mail", {}, job_id="x")):
            with pytest.raises(RedisAway):
                await attempt
        await client.aclose()


@pytest.mark.node
async def test_jobs_are_stored_as_node_stores_them(
    queue: Inspector, redis_url: str, prefix: str, node_bullmq: Callable[[int], NodeBullMQ]
) -> None:
    await node_bullmq(6).run(
        ADD_IN_NODE, {"connection": connection_of(redis_url), "prefix": prefix}
    )
    await queue.producer.add(
        "mail", {"to": "Grüße"}, job_id="p-plain", opts={"attempts": 3, "backoff": 500}
    )
    await queue.producer.add("mail", {"to": 1}, job_id="p-late", delay_ms=60_000)
    await queue.producer.add(
        "mail", None, job_id="p-high", opts={"priority": 3, "removeOnComplete": True}
    )
    for kind in ("plain", "late", "high"):
        ours, theirs = await queue.job(f"p-{kind}"), await queue.job(f"n-{kind}")
        for each in (ours, theirs):
            opts = json.loads(each.pop("opts"))
            opts.pop("jobId")
            each["opts"] = json.dumps(opts, sort_keys=True)
            each.pop("timestamp")
        assert ours == theirs
