"""The trackers and their stores, and what is done to them: Postgres stopped, trackers killed.

Every other kill comes while both stores are frozen: then nothing that comes in can be secured, and
whatever is answered as if it were is lost with its tracker. Processes are started and looked for in
threads, for requests go on meanwhile.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import redis.asyncio

from campaign_worker.embedded.postgres import PostgresServer
from campaign_worker.embedded.redis import RedisServer
from campaign_worker.storage.tracking_stream import events_key, unsubscribes_key
from tests.acceptance.process import WorkerProcess
from tests.chaos.track.plan import KEY, LOOP_LIMIT
from tests.chaos.track.sender import Replica, Sender

PREFIX = "chaos"
OUTAGE_AT = 0.3
"""Of all requests; kills without an outage come before and after it."""

KILLS_FROM, KILLS_TO = 0.05, 0.95
FROZEN_SECONDS = (0.01, 0.2)
"""Below what an answer waits for stores at most, and above it."""

Say = Callable[[str], None]
Trouble = Callable[[Sender, Say], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked for; `pace` in requests/s. `kills` come beside the one in the outage."""

    requests: int
    pace: float
    stop_seconds: float
    kills: int
    seed: int

    @property
    def all_kills(self) -> int:
        """How many trackers are to be killed."""
        return self.kills + (self.stop_seconds > 0)


class Fleet:
    """The trackers and their stores. `fault`: Python that each tracker's process runs first."""

    def __init__(
        self,
        postgres: PostgresServer,
        redis_server: RedisServer,
        folder: Path,
        plan: Plan,
        fault: str,
    ) -> None:
        self.postgres = postgres
        self.redis = redis_server
        self.kills = 0
        self.trackers: list[WorkerProcess] = []
        self._folder = folder
        self._plan = plan
        self._fault = fault
        self._dice = random.Random(plan.seed)  # noqa: S311 - repeatable, not secret
        self._started = 0

    def start(self) -> WorkerProcess:
        """Start one more."""
        tracker = self._new()
        self.trackers.append(tracker)
        return tracker

    async def disturb(self, sender: Sender, say: Say) -> None:
        """Do all that is planned, each at its place among the requests."""
        for place, trouble in sorted(self._troubles(), key=lambda each: each[0]):
            await sender.reached(place)
            if sender.done >= self._plan.requests:
                # A kill of who has nothing to do shows nothing, and is missed in the sums.
                say("all was sent before all was done: choose a lower pace, or fewer kills")
                return
            await trouble(sender, say)
            for tracker in self.trackers:
                await tracker.ready()

    async def stop(self) -> None:
        """Tell all to stop; each has to end well."""
        for tracker in self.trackers:
            tracker.send(signal.SIGTERM)
        for tracker in self.trackers:
            code = await tracker.ended()
            if code != 0:
                raise RuntimeError(f"{tracker.name} ended with {code}:\n{tracker.tail()}")

    async def kill(self) -> None:
        """Leave none."""
        for tracker in self.trackers:
            await tracker.kill()

    async def entries(self) -> int:
        """Count what waits in Redis."""
        client = redis.asyncio.Redis.from_url(self.redis.url)
        try:
            return int(await client.xlen(events_key(PREFIX))) + int(
                await client.xlen(unsubscribes_key(PREFIX))
            )
        finally:
            await client.aclose()

    def _new(self) -> WorkerProcess:
        self._started += 1
        env = {
            "REDIS_URL": self.redis.url,
            "DATABASE_URL": self.postgres.url,
            "BULLMQ_PREFIX": PREFIX,
            "TRACKING_SIGNING_KEYS": f"{KEY.id}:{KEY.secret}",
            "TRACKING_CLIENT_IP_HEADER": "X-Forwarded-For",
            "TRACKING_LIMIT_PER_LINK": str(LOOP_LIMIT),
            "LOG_FORMAT": "json",
        }
        name = f"tracker-{self._started}"
        folder = self._folder / name
        tracker = WorkerProcess(name, env, folder, command="track", before=self._fault)
        tracker.start()
        return tracker

    def _troubles(self) -> Iterator[tuple[int, Trouble]]:
        requests = self._plan.requests
        if self._plan.stop_seconds > 0:
            yield int(OUTAGE_AT * requests), self._outage
        for number in range(self._plan.kills):
            place = int(self._dice.uniform(KILLS_FROM, KILLS_TO) * requests)
            yield place, self._kill if number % 2 else self._kill_while_frozen

    async def _outage(self, sender: Sender, say: Say) -> None:
        """Stop Postgres in its time, kill a tracker in the middle of that, start both again."""
        say(f"after {sender.done} requests: Postgres stopped")
        await self.postgres.stop("immediate")
        await asyncio.sleep(self._plan.stop_seconds / 2)
        await self._kill(sender, say)
        await asyncio.sleep(self._plan.stop_seconds / 2)
        await self.postgres.start()
        say(f"after {sender.done} requests: Postgres is back")

    async def _kill(self, sender: Sender, say: Say) -> None:
        place = self._dice.randrange(len(self.trackers))
        await sender.replicas[place].busy()
        await self._replace(place, sender, say)

    async def _kill_while_frozen(self, sender: Sender, say: Say) -> None:
        place = self._dice.randrange(len(self.trackers))
        seconds = self._dice.uniform(*FROZEN_SECONDS)
        stores = (self.postgres, self.redis)
        try:
            await asyncio.gather(*(asyncio.to_thread(store.freeze) for store in stores))
            await asyncio.sleep(seconds)
            await self._replace(place, sender, say)
        finally:
            await asyncio.gather(*(asyncio.to_thread(store.thaw) for store in stores))
        say(f"after {sender.done} requests: both stores had been frozen for {seconds:.3f} s")

    async def _replace(self, place: int, sender: Sender, say: Say) -> None:
        victim = self.trackers[place]
        victim.send(signal.SIGKILL)
        await victim.ended()
        self.kills += 1
        self.trackers[place] = await asyncio.to_thread(self._new)
        sender.replicas[place] = Replica(self.trackers[place].port)
        say(f"after {sender.done} requests: {victim.name} killed, and another one started")
