"""Jobs of a resumed campaign do not wait for their next look: they are woken, at a bounded pace.

Campaigns are found by the mark that their resumption leaves, whoever resumed them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import dataclass

from campaign_worker.delivery.revival import Recovery, Resumed, Revival, Sweep

PAGE = 1000
WOKEN_PER_SECOND = 2000
_PAGES_PER_STEP = 5


@dataclass(frozen=True, slots=True)
class Woken:
    """What one step did. `more`: some campaign is not through."""

    count: int = 0
    more: bool = False


@dataclass(slots=True)
class _Pass:
    """One way through a campaign's rows; the last is one that began when it was settled."""

    resumed: Resumed
    sweep: Sweep
    after: int = 0
    over: bool = False


class Waking:
    """Walks over the rows of resumed campaigns: once at once, and once more when it has settled."""

    def __init__(self, recovery: Recovery, revival: Revival) -> None:
        self._recovery = recovery
        self._revival = revival
        self._passes: dict[int, _Pass] = {}

    async def step(self) -> Woken:
        """Walk on, a bounded number of pages. Raises errors.Away and ReconcilerTaken."""
        resumed = await self._recovery.resumed_campaigns()
        known = {one.campaign_id: one for one in resumed}
        self._passes = {
            number: each
            for number, each in self._passes.items()
            if number in known and known[number].at == each.resumed.at
        }
        count, pages = 0, _PAGES_PER_STEP
        for one in resumed:
            way = self._pass_of(one)
            while not way.over and pages:
                count += await self._page(way)
                pages -= 1
        return Woken(count, more=any(not way.over for way in self._passes.values()))

    def _pass_of(self, resumed: Resumed) -> _Pass:
        way = self._passes.get(resumed.campaign_id)
        if way is None or (way.over and resumed.settled):
            way = self._passes[resumed.campaign_id] = _Pass(resumed, self._revival.sweep())
        return way

    async def _page(self, way: _Pass) -> int:
        number = way.resumed.campaign_id
        called = await at_pace(self._revival.call_back(number, PAGE))
        if called is not None:
            return called
        rows = await self._recovery.resumed_rows(number, way.after, PAGE)
        woken = await at_pace(way.sweep.wake(rows)) or 0
        if len(rows) < PAGE:
            way.over = True
            if way.resumed.settled:
                await self._recovery.resumption_over(way.resumed)
        else:
            way.after = rows[-1].id
        return woken


async def at_pace(waking: Awaitable[int | None]) -> int | None:
    """Wait for a page to be woken, and for the time that so many may take; its answer."""
    began_at = time.monotonic()
    woken = await waking
    await asyncio.sleep(max(0.0, (woken or 0) / WOKEN_PER_SECOND - (time.monotonic() - began_at)))
    return woken
