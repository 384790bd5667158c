"""Node's Worker and our Worker class on one queue under load, filled by each BullMQ version."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
import redis.asyncio

from campaign_worker.queue import Job, Worker
from tests.conformance.conftest import StartNodeWorker
from tests.conformance.features import COMPARED_WITH
from tests.conformance.harness import QUEUE, App, job

pytestmark = pytest.mark.node

JOBS = 2000
#: In turn: plain, late, urgent, to take first, and one that fails at its first attempt.
KINDS: list[tuple[list[str], dict[str, Any]]] = [
    (["complete"], {}),
    (["complete"], {"delay": 200}),
    (["complete"], {"priority": 3}),
    (["complete"], {"lifo": True}),
    (["fail", "complete"], {"attempts": 2}),
    (["fail", "complete"], {"attempts": 2, "backoff": 50, "priority": 7}),
]


@pytest.mark.feature("beside Node's Worker on one queue")
async def test_every_attempt_of_every_job_runs_once(
    app: App,
    node_worker: StartNodeWorker,
    redis_client: redis.asyncio.Redis,
    redis_url: str,
    prefix: str,
) -> None:
    ours: Counter[str] = Counter()

    async def process(one: Job, token: str) -> str:
        ours[one.id] += 1
        await asyncio.sleep(0.002)
        plan = one.data["plan"]
        if plan[min(one.attempts_started, len(plan)) - 1] == "fail":
            raise ValueError("once")
        return "done"

    planned = [KINDS[number % len(KINDS)] for number in range(JOBS)]
    jobs = [job({"plan": plan}, **opts) for plan, opts in planned]
    options = {"connection": redis_url, "prefix": prefix, "concurrency": 10}
    major = COMPARED_WITH[app.node.major]
    async with node_worker(QUEUE, major=major, pause_ms=2, concurrency=10) as beside:
        workers = [Worker(QUEUE, process, options) for _ in range(2)]
        try:
            ids = await app.add(*jobs)
            await app.settled(40, completed=JOBS)
        finally:
            await asyncio.gather(*(worker.close() for worker in workers))
    by_node = Counter(run["id"] for run in beside.ran)
    expected = {one: len(plan) for one, (plan, _) in zip(ids, planned, strict=True)}
    assert ours + by_node == expected
    # Neither starves beside the other.
    assert min(ours.total(), by_node.total()) > JOBS / 10
    stalls = [await redis_client.hget(f"{prefix}:{QUEUE}:{one}", "stc") for one in ids]
    assert set(stalls) == {None}
