"""One run: servers up, workers up, mails and faults side by side, then calm, then the report."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from shutdown import end
from tests.chaos.kill import faults
from tests.chaos.kill.points import POINTS, PROVIDER_POINTS, STATEMENT_POINTS, at_points
from tests.chaos.kill.report import IDEMPOTENT, Report
from tests.chaos.kill.world import Plan, World, world

Tell = Callable[[str], None]
TELL_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Family:
    """What goes wrong, and what the plan has to be for it."""

    fault: Callable[[World, int], Awaitable[None]]
    needs: dict[str, Any] = field(default_factory=dict)


def _at(points: Sequence[str], *, kill: bool) -> Family:
    async def fault(world: World, count: int) -> None:
        everywhere = (
            POINTS if world.plan.policy != IDEMPOTENT else [*PROVIDER_POINTS, *STATEMENT_POINTS]
        )
        await at_points(world, [*(points or everywhere)] * count, kill=kill)

    return Family(fault)


FAMILIES: dict[str, Family] = {
    "random": Family(faults.random_kills),
    "kill-everywhere": _at([], kill=True),
    "cut-everywhere": _at(STATEMENT_POINTS, kill=False),
    **{f"kill-{point}": _at([point], kill=True) for point in (*POINTS, *PROVIDER_POINTS)},
    **{f"cut-{point}": _at([point], kill=False) for point in STATEMENT_POINTS},
    "redis-kill": Family(faults.redis_kills),
    "redis-kill-empty": Family(faults.redis_kills, {"appendonly": False}),
    "redis-flush": Family(faults.redis_flushes),
    "postgres-kill": Family(faults.postgres_kills),
    "postgres-away": Family(faults.postgres_away),
    "clocks": Family(
        faults.random_kills,
        {"clocks": (120.0, -120.0), "delay_ms": 3000, "follow_up_seconds": 2},
    ),
    "rivals": Family(faults.rivals, {"latency_ms": 150.0}),
}


async def run(
    plan: Plan,
    family: str,
    count: int,
    folder: Path,
    *,
    template: Path | None = None,
    tell: Tell | None = None,
) -> Report:
    """Do `count` faults of one family while mails go out; what became of everything."""
    chosen = FAMILIES[family]
    async with world(replace(plan, **chosen.needs), folder, template=template) as place:
        telling = asyncio.create_task(_tell_for_ever(place, tell or _silence))
        try:
            broken = await _do_its_worst(place, chosen, count)
            await place.settled()
            return replace(await place.report(family), broken=broken)
        finally:
            await end(telling)


async def _do_its_worst(place: World, family: Family, count: int) -> str:
    """Do the faults beside the feeding; why it broke off, if it did: the books still count."""
    over = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(place.feed_until(over))
        try:
            await family.fault(place, count)
        except Exception as error:  # noqa: BLE001 - the report says so, and is not good
            return f"{type(error).__name__}: {error}"
        finally:
            over.set()
    return ""


async def _tell_for_ever(place: World, tell: Tell) -> None:
    while True:
        await asyncio.sleep(TELL_SECONDS)
        seconds = time.monotonic() - place.began_at
        done = f"{place.kills} kills, {place.cuts} other faults"
        tell(f"{seconds:.0f} s: {done}, {len(place.sink.received)} mails accepted")


def _silence(_text: str) -> None:
    return
