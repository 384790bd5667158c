"""One run: servers up, workers up, mails and faults side by side, then calm, then the report."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.chaos.kill import faults
from tests.chaos.kill.report import Report
from tests.chaos.kill.world import Plan, World, world

FAULTS: dict[str, Callable[[World, int], Awaitable[None]]] = {
    "random": faults.random_kills,
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
