"""One run: servers up, workers up, mails and faults side by side, then calm, then the report."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.chaos.kill import faults
from tests.chaos.kill.points import POINTS, STATEMENT_POINTS, at_point
from tests.chaos.kill.report import Report
from tests.chaos.kill.world import Plan, World, world

Fault = Callable[[World, int], Awaitable[None]]


def _at(point: str, *, kill: bool) -> Fault:
    async def fault(world: World, count: int) -> None:
        await at_point(world, point, count, kill=kill)

    return fault


def _tour(points: list[str], *, kill: bool) -> Fault:
    async def fault(world: World, count: int) -> None:
        for point in points * count:
            await at_point(world, point, 1, kill=kill)

    return fault


FAULTS: dict[str, Fault] = {
    "random": faults.random_kills,
    **{f"kill-{point}": _at(point, kill=True) for point in POINTS},
    **{f"cut-{point}": _at(point, kill=False) for point in STATEMENT_POINTS},
    "kill-everywhere": _tour(POINTS, kill=True),
    "cut-everywhere": _tour(STATEMENT_POINTS, kill=False),
    "redis-kill": faults.redis_kills,
    "redis-kill-empty": faults.redis_kills_without_persistence,
    "redis-flush": faults.redis_flushes,
    "postgres-kill": faults.postgres_kills,
    "postgres-away": faults.postgres_away,
}


async def run(
    plan: Plan, fault: str, count: int, folder: Path, *, template: Path | None = None
) -> Report:
    """Do `count` faults of one family while mails go out; what became of everything."""
    async with world(plan, folder, template=template) as place:
        over = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(place.feed_until(over))
            await FAULTS[fault](place, count)
            over.set()
        await place.settled()
        return await place.report(fault)
