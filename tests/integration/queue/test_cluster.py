"""A worker on a Redis cluster: it finds the node of its queue, and finds it again."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import redis.asyncio

from campaign_worker.errors import SettingsError, UnsupportedOption
from campaign_worker.queue import ConnectionSpec, Job, Worker
from tests.fixtures.node import NodeBullMQ
from tests.integration.queue.cluster import Cluster, MakeRedis, Node
from tests.integration.queue.conftest import QUEUE, Events, Inspector
from tests.support import eventually

PREFIX = "{bull}"
KEY = f"{PREFIX}:{QUEUE}:wait"
APP = """
const { Queue } = require('bullmq');
const { Cluster } = require('ioredis');
const { points, prefix } = JSON.parse(process.env.INPUT);
(async () => {
  const connection = new Cluster(points, { redisOptions: { maxRetriesPerRequest: null } });
  const queue = new Queue('mails', { connection, prefix });
  const { id } = await queue.add('mail', {});
  let job;
  do {
    await new Promise((resolve) => setTimeout(resolve, 10));
    job = await queue.getJob(id);
  } while (!job.finishedOn);
  const value = job.returnvalue;
  const workers = (await queue.getWorkers()).map(({ rawname }) => rawname);
  await queue.close();
  await connection.quit();
  console.log(JSON.stringify({ value, workers }));
})();
"""


@pytest.fixture
async def cluster(own_redis: MakeRedis) -> AsyncIterator[Cluster]:
    made = await Cluster.started(own_redis)
    yield made
    await made.close()


def elsewhere(cluster: Cluster) -> Node:
    """Return a node that does not hold the queue."""
    return next(node for node in cluster.nodes if node is not cluster.holder(KEY))


async def test_a_worker_finds_its_queue_from_any_node_and_follows_when_its_slot_moves(
    cluster: Cluster, node_bullmq: Callable[[int], NodeBullMQ]
) -> None:
    gate = asyncio.Event()

    async def process(job: Job, token: str) -> str:
        if job.id == "long":
            await gate.wait()
        if job.attempts_made == 0 and job.opts.get("attempts"):
            raise ValueError("once")
        return "done"

    source, target = cluster.holder(KEY), elsewhere(cluster)
    queue = Inspector(source.client, PREFIX)
    options = {"prefix": PREFIX, "concurrency": 5, "name": "here", "lockDuration": 1000}
    worker = Worker(QUEUE, process, {**options, "connection": {"cluster": [target.point]}})
    renewed = Events(worker, "locksRenewed")
    try:
        for name, opts in {
            "plain": {},
            "urgent": {"priority": 1},
            "again": {"attempts": 2},
        }.items():
            await queue.producer.add("mail", {}, job_id=name, opts=opts)
        await queue.producer.add("mail", {}, job_id="later", delay_ms=50)
        await eventually(lambda: _completed(queue, 4))
        said = await node_bullmq(6).run(
            APP, {"points": [each.point for each in cluster.nodes], "prefix": PREFIX}
        )
        assert said == [{"value": "done", "workers": [f"{PREFIX}:bWFpbHM=:w:here"]}]

        await queue.producer.add("mail", {}, job_id="long")
        await eventually(lambda: worker.active_jobs == 1)
        await cluster.move(KEY, source, target)
        moved = Inspector(target.client, PREFIX)
        await moved.producer.add("mail", {}, job_id="there")
        await eventually(lambda: _completed(moved, 6), 10)
        before = len(renewed.seen)
        await eventually(lambda: len(renewed.seen) > before, says="its lock is kept there")
        gate.set()
        await eventually(lambda: _completed(moved, 7), 10)
        assert await moved.counts() == {"completed": 7}
        assert (await moved.job("long"))["ats"] == "1"
    finally:
        gate.set()
        await worker.close()


async def test_a_node_that_is_frozen_keeps_no_worker_from_its_queue(cluster: Cluster) -> None:
    async def process(job: Job, token: str) -> str:
        return "done"

    frozen, holder = elsewhere(cluster), cluster.holder(KEY)
    queue = Inspector(holder.client, PREFIX)
    await queue.add()
    await holder.client.config_set("cluster-require-full-coverage", "no")
    pid = (await frozen.client.info("server"))["process_id"]
    os.kill(pid, signal.SIGSTOP)
    points = [frozen.point, holder.point]
    worker = Worker(QUEUE, process, {"prefix": PREFIX, "connection": {"cluster": points}})
    try:
        await eventually(lambda: _completed(queue, 1), 15)
    finally:
        os.kill(pid, signal.SIGCONT)
        await worker.close()


async def test_a_client_of_a_cluster_says_where_it_is(cluster: Cluster) -> None:
    async def process(job: Job, token: str) -> str:
        return "done"

    point = elsewhere(cluster).point
    client = redis.asyncio.RedisCluster(**point)
    queue = Inspector(cluster.holder(KEY).client, PREFIX)
    await queue.add()
    worker = Worker(QUEUE, process, {"prefix": PREFIX, "connection": client})
    try:
        await eventually(lambda: _completed(queue, 1))
    finally:
        await worker.close()
        await client.aclose()


async def test_what_a_cluster_cannot_hold_or_serve_is_refused_by_name() -> None:
    async def process(job: Job, token: str) -> None:
        return None

    with pytest.raises(SettingsError) as without_tag:
        Worker(QUEUE, process, {"connection": {"cluster": True}, "autorun": False})
    assert without_tag.value.setting == "prefix"
    with pytest.raises(UnsupportedOption) as not_a_worker:
        _ = ConnectionSpec.of("redis://h:7000?cluster=true").client()
    assert not_a_worker.value.setting == "connection.cluster"


async def _completed(queue: Inspector, count: int) -> bool:
    counts: dict[str, Any] = await queue.counts()
    return counts.get("completed") == count
