"""What a job's run leaves in Redis: after a Node Worker of 6.x, and after our Worker class."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from datetime import UTC, datetime
from typing import Any

import pytest
import redis.asyncio

from campaign_worker.queue import DelayedError, Job, UnrecoverableError, WaitingError, Worker
from campaign_worker.queue.keys import QueueKeys
from tests.conformance.conftest import StartNodeWorker
from tests.conformance.contents import dump, events
from tests.conformance.harness import App, job
from tests.support import eventually

pytestmark = pytest.mark.node

NAME = "w"
VALUES: dict[str, Any] = {
    "nothing": None,
    "values": [
        *(True, 7, 1.5, "größer", None, {"deep": [float("nan"), float("inf")]}),
        *(datetime.fromtimestamp(0, UTC), b"ab"),
    ],
    "text": "text",
    "false": False,
}


@dataclasses.dataclass(frozen=True)
class Scenario:
    """`jobs` as the app adds them before a worker is there; `ends`: how many end, however.

    With `children` the only job is their parent. `stalled`: the first one is active already, of a
    worker that has died.
    """

    jobs: list[dict[str, Any]]
    ends: int = 1
    worker: dict[str, Any] = dataclasses.field(default_factory=dict)
    children: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    stalled: bool = False


def planned(*plan: str, **opts: Any) -> dict[str, Any]:
    return job({"plan": list(plan)}, **opts)


FIXED = {"type": "fixed", "delay": 30}
EXPONENTIAL = {"type": "exponential", "delay": 20}
SCENARIOS = {
    "completes": Scenario([planned("complete"), planned("nothing")], 2),
    "fails-once": Scenario([planned("fail", "complete", attempts=3, backoff=FIXED)]),
    "fails-once-no-backoff": Scenario([planned("fail", "complete", attempts=2)]),
    "fails-once-lifo": Scenario([planned("fail", "complete", attempts=2, lifo=True)]),
    "fails-once-prioritized": Scenario([planned("fail", "complete", attempts=2, priority=4)]),
    "fails-for-good": Scenario([planned("fail", attempts=3, backoff=EXPONENTIAL)]),
    "fails-without-attempts": Scenario([planned("fail")]),
    "gives-up": Scenario([planned("give up", attempts=3, backoff=FIXED)]),
    "no-stacktraces": Scenario([planned("fail", attempts=2, stackTraceLimit=0)]),
    "one-stacktrace": Scenario([planned("fail", attempts=3, stackTraceLimit=1)]),
    "removed-when-complete": Scenario([planned("complete", removeOnComplete=True)] * 2, 2),
    "keeps-one-complete": Scenario([planned("complete", removeOnComplete=1)] * 3, 3),
    "keeps-by-age": Scenario(
        [planned("complete", removeOnComplete={"age": 60, "count": 2})] * 3, 3
    ),
    "removed-when-failed": Scenario([planned("fail", removeOnFail=True)]),
    "keeps-one-failed": Scenario([planned("fail", removeOnFail=1)] * 2, 2),
    "worker-keeps-one": Scenario(
        [planned("complete"), planned("complete"), planned("fail"), planned("fail")],
        4,
        {"removeOnComplete": {"count": 1}, "removeOnFail": {"count": 1}},
    ),
    "delayed": Scenario([planned("complete", delay=60)]),
    "prioritized": Scenario(
        [planned("complete", priority=priority) for priority in (3, 1, 2)]
        + [planned("complete"), planned("complete", lifo=True)],
        5,
    ),
    "reports": Scenario([planned("report", keepLogs=5)]),
    "progress": Scenario([planned("progress")]),
    "values": Scenario([planned("values"), planned("text"), planned("false")], 3),
    "waits": Scenario([planned("wait", "complete")]),
    "waits-prioritized": Scenario([planned("wait", "complete", priority=4)]),
    "own-backoff": Scenario([planned("fail", attempts=9, backoff={"type": "own"})]),
    "started-out": Scenario([planned("fail", attempts=3)], worker={"maxStartedAttempts": 1}),
    "stalled": Scenario([planned("complete")], stalled=True),
    "stalled-too-often": Scenario(
        [planned("complete", attempts=3)], worker={"maxStalledCount": 0}, stalled=True
    ),
    "keeps-by-limit": Scenario(
        [planned("complete", removeOnComplete={"age": 60, "count": 3, "limit": 1})] * 5, 5
    ),
    "keeps-by-age-of-0": Scenario([planned("fail", removeOnFail={"age": 0})] * 2, 2),
    "later": Scenario([planned("later", "complete")]),
    "deduplicated": Scenario([planned("complete", deduplication={"id": "one"})]),
    "flow": Scenario(
        [planned("complete", jobId="parent")],
        3,
        children=[
            planned("complete", jobId="good"),
            planned("fail", jobId="bad", ignoreDependencyOnFailure=True),
        ],
    ),
    "flow-fails": Scenario(
        [planned("complete", jobId="parent")],
        2,
        children=[planned("fail", jobId="bad", failParentOnFailure=True)],
    ),
    "metrics": Scenario(
        [planned("complete"), planned("fail")], 2, {"metrics": {"maxDataPoints": 10}}
    ),
}


async def process(job: Job, token: str) -> Any:
    """Do what worker.mjs does."""
    plan = job.data.get("plan", ["complete"])
    match plan[min(job.attempts_started, len(plan)) - 1]:
        case "complete":
            return {"outcome": "sent", "text": "größer", "attempt": job.attempts_made}
        case "fail":
            raise RuntimeError(f"no, attempt {job.attempts_made}")
        case "give up":
            raise UnrecoverableError("never")
        case "report":
            await job.update_progress({"done": 50})
            await job.log("half-way")
            await job.update_data({**job.data, "changed": True})
            return "reported"
        case "wait":
            await job.move_to_wait(token)
            raise WaitingError
        case "nothing" | "values" | "text" | "false" as what:
            return VALUES[what]
        case "progress":
            for progress in (10, "half", True):
                await job.update_progress(progress)
            return 0
        case "later":
            await job.move_to_delayed(time.time_ns() // 1_000_000 + 50, token)
            raise DelayedError
        case _:
            raise RuntimeError("unknown plan")


async def backoff(attempt: int, kind: str, error: BaseException, job: Job) -> float:
    """Do what worker.mjs does."""
    return -1 if attempt > 2 else 10 * attempt


class Runs:
    """Adds the jobs of all scenarios, waits for their ends, and takes what is in Redis then."""

    def __init__(self, app: App, client: redis.asyncio.Redis, prefix: str) -> None:
        self._app = app
        self._client = client
        self._prefix = prefix

    async def add(self) -> None:
        for queue, scenario in SCENARIOS.items():
            if scenario.children:
                children = [{**child, "queueName": queue} for child in scenario.children]
                tree = {**scenario.jobs[0], "queueName": queue, "children": children}
                await self._app.call("flow", tree)
            else:
                first, *_ = await self._app.add(*scenario.jobs, queue=queue)
                if scenario.stalled:
                    await self._stall(queue, first)

    async def _stall(self, queue: str, job_id: str) -> None:
        keys = QueueKeys(queue, self._prefix)
        await self._client.rpoplpush(keys.of("wait"), keys.of("active"))
        await self._client.sadd(keys.of("stalled"), job_id)

    async def ended(self) -> bool:
        for queue, scenario in SCENARIOS.items():
            told = await events(self._client, self._prefix, queue)
            ended = [one["event"] for one in told if one["event"] in {"completed", "failed"}]
            assert len(ended) == scenario.ends, (queue, told)
            # Popped by a worker that has found nothing more to do.
            assert not await self._client.exists(f"{self._prefix}:{queue}:marker"), queue
        return True

    async def take(self) -> dict[str, dict[str, Any]]:
        """Take everything out of Redis, so that the same can happen again."""
        taken = {queue: await dump(self._client, self._prefix, queue) for queue in SCENARIOS}
        await self._client.flushdb()
        # The app has announced itself when it started.
        for queue, keys in taken.items():
            await self._client.hset(f"{self._prefix}:{queue}:meta", mapping=keys["meta"]["content"])
        return taken


async def test_our_worker_leaves_in_redis_what_a_node_worker_leaves(
    app6: App,
    node_worker: StartNodeWorker,
    redis_client: redis.asyncio.Redis,
    redis_url: str,
    prefix: str,
) -> None:
    runs = Runs(app6, redis_client, prefix)
    options = {queue: {"name": NAME, **one.worker} for queue, one in SCENARIOS.items()}
    await runs.add()
    async with node_worker(*SCENARIOS, each=options):
        await eventually(runs.ended, 10)
    by_node = await runs.take()

    await runs.add()
    settings = {"backoffStrategy": backoff}
    connection: dict[str, Any] = {"connection": redis_url, "prefix": prefix, "settings": settings}
    workers = [Worker(queue, process, {**connection, **one}) for queue, one in options.items()]
    try:
        await eventually(runs.ended, 10)
    finally:
        await asyncio.gather(*(worker.close() for worker in workers))
    by_us = await runs.take()
    for queue in SCENARIOS:
        assert by_us[queue] == by_node[queue], queue
    _check_that_much_was_compared(by_node)


def _check_that_much_was_compared(taken: dict[str, dict[str, Any]]) -> None:
    fails_once = taken["fails-once"]
    assert set(fails_once) == {"1", "completed", "events", "id", "meta", "stalled-check"}
    assert fails_once["1"]["content"]["atm"] == "2"
    assert fails_once["1"]["content"]["stacktrace"] == "1 traces"
    assert {one["event"] for one in fails_once["events"]["content"]} >= {"delayed", "completed"}
    assert "1" not in taken["removed-when-complete"]
    assert "1:logs" in taken["reports"]
    assert "metrics:completed" in taken["metrics"]
