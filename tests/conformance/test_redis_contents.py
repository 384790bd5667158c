"""What a run leaves in Redis, after a Node Worker and after our Worker class: how it is compared.

All scenarios, for apps of each version, are run by test_app_versions.py.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import redis.asyncio

from campaign_worker.queue import Worker
from campaign_worker.queue.keys import QueueKeys
from tests.conformance.conftest import StartNodeWorker
from tests.conformance.contents import dump, events
from tests.conformance.harness import App, NodeWorker
from tests.conformance.plans import Plans, backoff
from tests.conformance.scenarios import ACROSS, SCENARIOS, Scenario
from tests.fixtures.node import NodeBullMQ, connection_of
from tests.support import eventually

pytestmark = pytest.mark.node

NAME = "w"
ENDS = {"completed", "failed", "removed"}
ENOUGH_SECONDS = 20


class Runs:
    """Adds the jobs of all scenarios, waits for their ends, and takes what is in Redis then."""

    def __init__(
        self,
        app: App,
        client: redis.asyncio.Redis,
        prefix: str,
        scenarios: Mapping[str, Scenario],
    ) -> None:
        self._app = app
        self._client: Any = client
        self._prefix = prefix
        self._scenarios = scenarios

    async def add(self) -> None:
        for each in self._scenarios.items():
            await self._add(*each)

    async def _add(self, queue: str, scenario: Scenario) -> None:
        keys = QueueKeys(queue, self._prefix)
        for name, *arguments in scenario.first:
            await self._app.call(name, *(_timed(each) for each in arguments), queue)
        if scenario.children:
            await self._app.call("flow", _tree(queue, scenario.jobs[0], scenario.children))
        elif scenario.jobs:
            await self._app.add(*(self._related(queue, one) for one in scenario.jobs), queue=queue)
        if scenario.fields:
            first = await self._client.lindex(keys.of("wait"), -1)
            await self._client.hset(keys.job(first), mapping=scenario.fields)
        if scenario.stalled:
            stalled = await self._client.rpoplpush(keys.of("wait"), keys.of("active"))
            await self._client.sadd(keys.of("stalled"), stalled)

    def _related(self, queue: str, job: dict[str, Any]) -> dict[str, Any]:
        parent = job["opts"].get("parent")
        if parent is None:
            return job
        parent = {**parent, "queue": f"{self._prefix}:{queue}"}
        return {**job, "opts": {**job["opts"], "parent": parent}}

    async def go_on(self) -> None:
        """Add the jobs that come while others are active, and tell those."""
        added = {queue: one for queue, one in self._scenarios.items() if one.during}
        await asyncio.gather(*(self._go_on(*each) for each in added.items()))

    async def _go_on(self, queue: str, scenario: Scenario) -> None:
        active = QueueKeys(queue, self._prefix).of("active")
        first = await eventually(lambda: self._client.lindex(active, 0), says=f"{queue} active")
        for one in scenario.during:
            await self._app.add(one, queue=queue)
        await self._app.call("release", first, queue)

    async def ended(self) -> bool:
        states = [await self._ended(*each) for each in self._scenarios.items()]
        going_on = [state for state in states if state]
        assert not going_on, going_on
        return True

    async def _ended(self, queue: str, scenario: Scenario) -> str:
        """Say what goes on in a queue; nothing when all has come to its end."""
        told = await events(self._client, self._prefix, queue)
        ended = [one["event"] for one in told if one["event"] in ENDS]
        if len(ended) != scenario.ends:
            return f"{queue}: {ended}"
        # Popped by a worker that has found nothing more to do; run out; done.
        for kind in ("marker", "limiter", "active"):
            if await self._client.exists(f"{self._prefix}:{queue}:{kind}"):
                return f"{queue}: {kind}"
        return ""

    async def take(self) -> dict[str, dict[str, Any]]:
        """Take everything out of Redis, so that the same can happen again."""
        taken = {queue: await dump(self._client, self._prefix, queue) for queue in self._scenarios}
        for keys in taken.values():
            # A worker of ours that is closed while it waits puts back what it may have popped.
            keys.pop("marker", None)
        await self._client.flushdb()
        # The app has announced itself when it started.
        for queue, keys in taken.items():
            meta = keys["meta"]["content"]
            for field in {"opts.maxLenEvents", "version"} & meta.keys():
                await self._client.hset(f"{self._prefix}:{queue}:meta", field, meta[field])
        return taken

    async def by_node(self, start: StartNodeWorker, **options: Any) -> dict[str, dict[str, Any]]:
        """Let a Node Worker do it, and take what that leaves."""
        await self.add()
        async with start(*self._scenarios, each=self._options(), **options):
            await self.go_on()
            await eventually(self.ended, ENOUGH_SECONDS)
        return await self.take()

    async def by_us(self, url: str) -> dict[str, dict[str, Any]]:
        """Let our Worker do it, and take what that leaves."""
        await self.add()
        settings = {"backoffStrategy": backoff}
        connection = {"connection": url, "prefix": self._prefix, "settings": settings}
        workers = []
        for queue, options in self._options().items():
            plans = Plans(self._client, self._prefix)
            workers.append(plans.attach(Worker(queue, plans.process, {**connection, **options})))
        try:
            await self.go_on()
            await eventually(self.ended, ENOUGH_SECONDS)
        finally:
            await asyncio.gather(*(worker.close() for worker in workers))
        return await self.take()

    def _options(self) -> dict[str, Any]:
        return {queue: {"name": NAME, **one.worker} for queue, one in self._scenarios.items()}


def _timed(value: Any) -> Any:
    if isinstance(value, dict):
        if value.keys() == {"$in"}:
            return time.time_ns() // 1_000_000 + value["$in"]
        return {name: _timed(each) for name, each in value.items()}
    return value


def _tree(queue: str, job: dict[str, Any], children: list[dict[str, Any]]) -> dict[str, Any]:
    below = [_tree(queue, child, child.get("children", [])) for child in children]
    return {"queueName": queue, **job, "children": below}


async def test_what_is_compared_is_all_that_a_run_leaves(
    app6: App, redis_client: redis.asyncio.Redis, redis_url: str, prefix: str
) -> None:
    names = ("fails-once", "removed-when-complete", "reports", "metrics")
    runs = Runs(app6, redis_client, prefix, {name: SCENARIOS[name] for name in names})
    taken = await runs.by_us(redis_url)
    fails_once = taken["fails-once"]
    assert set(fails_once) == {"1", "completed", "events", "id", "meta", "stalled-check"}
    assert fails_once["1"]["content"]["atm"] == "2"
    assert fails_once["1"]["content"]["stacktrace"] == "1 traces"
    assert {one["event"] for one in fails_once["events"]["content"]} >= {"delayed", "completed"}
    assert "1" not in taken["removed-when-complete"]
    assert "1:logs" in taken["reports"]
    assert "metrics:completed" in taken["metrics"]


async def test_it_is_the_same_with_a_parent_in_another_queue(
    app6: App,
    node_worker: StartNodeWorker,
    redis_client: redis.asyncio.Redis,
    redis_url: str,
    prefix: str,
) -> None:
    runs = Runs(app6, redis_client, prefix, ACROSS)
    different = differences(await runs.by_node(node_worker), await runs.by_us(redis_url))
    assert not different, "\n".join(different)


async def test_it_is_the_same_under_a_prefix_in_braces(
    node_bullmq: Callable[[int], NodeBullMQ],
    redis_client: redis.asyncio.Redis,
    redis_url: str,
    prefix: str,
) -> None:
    braced = f"{prefix}:{{mails}}"
    connection = connection_of(redis_url)

    def start(*queues: str, each: Any) -> AbstractAsyncContextManager[NodeWorker]:
        given = {"prefix": braced, "queues": queues, "each": each}
        return NodeWorker.started(node_bullmq(6), connection=connection, **given)

    names = ("fails-once", "flow-fails-parent", "every-goes-on", "limited-by-a-job")
    async with App.started(node_bullmq(6), redis_url, braced) as app:
        runs = Runs(app, redis_client, braced, {name: SCENARIOS[name] for name in names})
        different = differences(await runs.by_node(start), await runs.by_us(redis_url))
        assert not different, "\n".join(different)


def differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Say where two values differ, one line for each place."""
    if isinstance(one, dict) and isinstance(other, dict):
        places = sorted(one.keys() | other.keys())
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        places = list(range(len(one)))
    else:
        return [] if one == other else [f"{path}: {one!r} / {other!r}"]
    one, other = dict(_items(one)), dict(_items(other))
    found = [differences(one.get(at), other.get(at), f"{path}/{at}") for at in places]
    return [line for lines in found for line in lines]


def _items(value: Any) -> Any:
    return value.items() if isinstance(value, dict) else enumerate(value)
