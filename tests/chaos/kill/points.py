"""Faults at named points: a worker is killed there, or its connection cut."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tests.chaos.kill.fleet import Member
from tests.chaos.kill.provider import ANSWERED, ASKED, EXECUTED
from tests.chaos.kill.sink import AFTER_250
from tests.chaos.kill.taps import PostgresReader, RedisReader, Tap
from tests.chaos.kill.world import World

FURTHEST = 12
"""A worker is hit at the first to this time that it gets to the point."""

PATIENCE_SECONDS = 60.0

SMTP_POINTS = {
    "mail": "MAIL",
    "data": "DATA",
    "dot": "DOT",
    "250": AFTER_250,
}
PROVIDER_POINTS = {one: one for one in (ASKED, EXECUTED, ANSWERED)}
STATEMENT_POINTS = [
    f"{when}-{what}"
    for what in ("claim", "mark", "settle", "finish")
    for when in ("before", "after")
]
POINTS = [*SMTP_POINTS, *STATEMENT_POINTS]
_SEEN_BY_SERVERS = {**SMTP_POINTS, **PROVIDER_POINTS}


@dataclass(slots=True)
class _Aim:
    """Where and when a worker is hit: at this many more passages of the point."""

    point: str
    left: int


class Marksman:
    """Starts workers whose connections are tapped, and hits each at the next point that is due."""

    def __init__(self, world: World, points: Iterable[str], *, kill: bool) -> None:
        self._world = world
        self._due = list(points)
        self._kill = kill
        self._aims: dict[str, _Aim] = {}
        self._taps: dict[str, list[Tap]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self.left = len(self._due)
        self.hits: Counter[str] = Counter()
        self.hit = asyncio.Event()

    async def start(self, name: str) -> dict[str, str]:
        """Make the taps of one more worker; the settings that lead it there."""
        for gone in [each for each in self._aims if self._world.member(each) is None]:
            # It did not live to be hit.
            self._due.append(self._aims.pop(gone).point)
        self._aim(name)
        site = self._world.site
        postgres = Tap(site.database_url, PostgresReader, self._hook(name))
        redis = Tap(site.redis_url, RedisReader, self._hook(name))
        self._taps[name] = [await postgres.start(), await redis.start()]
        return {"DATABASE_URL": f"{postgres.url}?sslmode=disable", "REDIS_URL": redis.url}

    def pass_server(self, moment: str, worker: str) -> None:
        """Hear what the server sees that the mails go to."""
        self._passed(worker, moment)

    async def close(self) -> None:
        """Cut all taps."""
        for taps in self._taps.values():
            for tap in taps:
                await tap.close()
        await asyncio.gather(*self._closing)

    def _hook(self, name: str) -> Callable[[str], bool]:
        return lambda moment: self._passed(name, moment.replace(" ", "-"))

    def _passed(self, name: str, moment: str) -> bool:
        member = self._world.member(name)
        if member is None:
            # Nothing that a dead worker has written reaches anybody at a statement.
            return moment not in _SEEN_BY_SERVERS.values()
        aim = self._aims.get(name)
        if aim is None or moment != _SEEN_BY_SERVERS.get(aim.point, aim.point):
            return False
        aim.left -= 1
        if aim.left > 0:
            return False
        self._note(self._aims.pop(name))
        if self._kill:
            self._shoot(member)
        else:
            self._aim(name)
        return True

    def _note(self, aim: _Aim) -> None:
        self.hits[aim.point] += 1
        self.left -= 1
        self.hit.set()

    def _shoot(self, member: Member) -> None:
        self._world.kill(member)
        for tap in self._taps.pop(member.name):
            closing = asyncio.create_task(tap.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    def _aim(self, name: str) -> None:
        if self._due:
            left = self._world.random.randint(1, FURTHEST)
            self._aims[name] = _Aim(self._due.pop(0), left)


async def at_points(world: World, points: Iterable[str], *, kill: bool) -> None:
    """Hit a worker, or its connection, at each of these points, in about that order."""
    marksman = Marksman(world, points, kill=kill)
    # Those that run are not tapped.
    await world.replace_all()
    world.tapped = marksman.start
    world.sink.hook = marksman.pass_server
    try:
        while marksman.left:
            marksman.hit.clear()
            await world.keep_alive()
            async with asyncio.timeout(PATIENCE_SECONDS):
                await marksman.hit.wait()
    finally:
        world.sink.hook = None
        world.tapped = None
        world.at += marksman.hits
        world.cuts += 0 if kill else marksman.hits.total()
        # From now on workers go straight; those that are tapped end, and lose nothing by it.
        await world.replace_all()
        await marksman.close()
    await world.keep_alive()
