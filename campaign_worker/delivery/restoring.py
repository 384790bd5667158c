"""What a Redis that lost everything, or went back in time, is given again: a job for every row.

Each queue has an epoch key in Redis, and Postgres knows what it must say. It is written anew at
every look, so that a snapshot from before the last one is told from the queue that it was.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from campaign_worker.delivery.revival import BEGINNING, Cursor, DueRow, Recovery, Revival, Sweep

PAGE = 1000
_PAGES_PER_STEP = 20


@dataclass(frozen=True, slots=True)
class Restored:
    """What one step did. `lost`: queues whose loss began a sweep. `more`: it is not over."""

    looked: int = 0
    revived: int = 0
    more: bool = False
    lost: tuple[str, ...] = ()


@dataclass(slots=True)
class _Full:
    """A full sweep under way; `epochs` are in Redis already, and go to Postgres at its end."""

    sweep: Sweep
    epochs: Mapping[str, str]
    after: Cursor = BEGINNING
    looked: int = 0
    revived: int = 0


class Restoring:
    """Compares epochs at each step, and sweeps over every scheduled row when one has changed."""

    def __init__(self, recovery: Recovery, revival: Revival) -> None:
        self._recovery = recovery
        self._revival = revival
        self._full: _Full | None = None

    async def step(self, *, forced: bool = False) -> Restored:
        """Go on with the sweep that is under way, or begin one if there is reason, or if forced.

        Raises errors.Away and ReconcilerTaken.
        """
        found = await self._revival.epochs()
        if self._full is not None and found != self._full.epochs:
            # Lost again, or another replica swept meanwhile.
            self._full = None
        lost: tuple[str, ...] = ()
        if self._full is None:
            expected = await self._recovery.epochs(list(found))
            lost = tuple(
                queue
                for queue, epoch in found.items()
                if epoch is None or epoch != expected.get(queue)
            )
            if not lost and not forced:
                await self._turn(found)
                return Restored()
            self._full = await self._begin(found)
        return await self._go_on(self._full, lost)

    async def _begin(self, found: Mapping[str, str | None]) -> _Full:
        # Into Redis first: what gets lost during the sweep takes the new epochs with it. Into
        # Postgres last: a sweep that breaks off is begun again.
        fresh = {queue: str(uuid.uuid4()) for queue in found}
        for queue, epoch in fresh.items():
            await self._revival.write_epoch(queue, epoch, instead_of=found[queue])
        return _Full(self._revival.sweep(), fresh)

    async def _go_on(self, full: _Full, lost: tuple[str, ...]) -> Restored:
        before = full.looked, full.revived
        more = True
        for _ in range(_PAGES_PER_STEP):
            rows = await self._recovery.due_rows(full.after, PAGE, every=True)
            full.looked += len(rows)
            full.revived += await revive(self._recovery, full.sweep, rows)
            if len(rows) < PAGE:
                await self._recovery.write_epochs(full.epochs)
                self._full, more = None, False
                break
            full.after = rows[-1].cursor
        return Restored(full.looked - before[0], full.revived - before[1], more, lost)

    async def _turn(self, found: Mapping[str, str | None]) -> None:
        fresh = {queue: str(uuid.uuid4()) for queue in found}
        for queue, epoch in fresh.items():
            if not await self._revival.write_epoch(queue, epoch, instead_of=found[queue]):
                return
        await self._recovery.write_epochs(fresh)


async def revive(recovery: Recovery, sweep: Sweep, rows: Sequence[DueRow]) -> int:
    """Give life to the jobs of those rows that lack it; how many did.

    Asked again after the look at the queue: a job may have finished since its row was read, and
    then the row says so.
    """
    needy = await sweep.needy(rows) if rows else []
    if needy:
        needy = await recovery.still_scheduled(needy)
    return await sweep.revive(needy) if needy else 0
