"""Faults at named points: a worker is killed there, or its connection cut."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from tests.chaos.kill.fleet import Member
from tests.chaos.kill.sink import AFTER_250
from tests.chaos.kill.taps import PostgresReader, RedisReader, Tap
from tests.chaos.kill.world import World

FURTHEST = 12
"""A worker is hit at the first to this time that it gets to the point."""

PATIENCE_SECONDS = 20.0

SMTP_POINTS = {
    "mail": "MAIL",
    "data": "DATA",
    "dot": "DOT",
    "250": AFTER_250,
}
STATEMENT_POINTS = [
    f"{when}-{what}"
    for what in ("claim", "mark", "settle", "finish")
    for when in ("before", "after")
]
POINTS = [*SMTP_POINTS, *STATEMENT_POINTS]


@dataclass(slots=True)
class _Aim:
    """When a worker is hit: at this many more passages."""

    left: int


class Marksman:
    """Starts workers whose connections are tapped, and hits each once at the point."""

    def __init__(self, world: World, point: str, *, kill: bool) -> None:
        self._world = world
        self._point = SMTP_POINTS.get(point, point.replace("-", " "))
        self._kill = kill
        self._aims: dict[str, _Aim] = {}
        self._taps: list[Tap] = []
        self.hits = 0
        self.hit = asyncio.Event()

    async def start(self, name: str) -> dict[str, str]:
        """Make the taps of one more worker; the settings that lead it there."""
        self._aims[name] = self._aim()
        site = self._world.site
        postgres = Tap(site.database_url, PostgresReader, self._hook(name))
        redis = Tap(site.redis_url, RedisReader, self._hook(name))
        self._taps += [await postgres.start(), await redis.start()]
        return {"DATABASE_URL": f"{postgres.url}?sslmode=disable", "REDIS_URL": redis.url}

    def pass_smtp(self, moment: str, worker: str) -> None:
        """Hear what the SMTP server sees."""
        self._passed(worker, moment)

    async def close(self) -> None:
        """Cut all taps."""
        for tap in self._taps:
            await tap.close()

    def _hook(self, name: str) -> Callable[[str], bool]:
        return lambda moment: self._passed(name, moment)

    def _passed(self, name: str, moment: str) -> bool:
        member = self._world.member(name)
        if member is None:
            # Nothing that a dead worker has written reaches anybody at a statement.
            return moment not in SMTP_POINTS.values()
        aim = self._aims.get(name)
        if aim is None or moment != self._point:
            return False
        aim.left -= 1
        if aim.left > 0:
            return False
        if self._kill:
            self._shoot(member)
        else:
            self._aims[name] = self._aim()
        self.hits += 1
        self.hit.set()
        return True

    def _shoot(self, member: Member) -> None:
        del self._aims[member.name]
        self._world.kill(member)

    def _aim(self) -> _Aim:
        return _Aim(self._world.random.randint(1, FURTHEST))


async def at_point(world: World, point: str, hits: int, *, kill: bool) -> None:
    """Hit so many workers, or connections, at one point."""
    marksman = Marksman(world, point, kill=kill)
    # Those that run are not tapped.
    await world.replace_all()
    world.settings_of = marksman.start
    world.sink.hook = marksman.pass_smtp
    try:
        while marksman.hits < hits:
            marksman.hit.clear()
            await world.keep_alive()
            async with asyncio.timeout(PATIENCE_SECONDS):
                await marksman.hit.wait()
    finally:
        world.sink.hook = None
        world.settings_of = None
        world.cuts += 0 if kill else marksman.hits
        # From now on workers go straight; those that are tapped end, and lose nothing by it.
        await world.replace_all()
        await marksman.close()
    await world.keep_alive()
