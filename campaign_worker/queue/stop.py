"""The stages in which a worker stops: quiet, settle, drain, abort, hand back, close.

Each stage that waits is bounded by a deadline; none depends on Redis answering.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from campaign_worker.queue.abort import AbortReason
from campaign_worker.queue.active import ActiveJob, Phase
from shutdown import Deadline, end

if TYPE_CHECKING:
    from campaign_worker.queue.engine import Engine

#: What a close without a deadline allows to each part that only waits for Redis.
_INTAKE_SECONDS = 10.0
_FORCED_INTAKE_SECONDS = 1.0
_REDIS_AWAY_SECONDS = 5.0
_HAND_BACK_SECONDS = 2.0
_TEARDOWN_SECONDS = 2.0
_LOOK_SECONDS = 0.5
_CUT_SECONDS = 0.1


class Stopper:
    """Stops one engine; worker.py says in which order, or `close` does it all."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        #: Set when nobody wants to wait for active jobs any longer.
        self.forced = asyncio.Event()

    def active(self) -> list[ActiveJob]:
        """Return the jobs between claim and settled outcome that are still the worker's."""
        return [active for active in self._engine.slots.active.values() if not active.told]

    def quiet(self) -> None:
        """Claim nothing from now on, for good."""
        if not self._engine.intake.quiet:
            self._engine.intake.quiet = True
            self._engine.stop_intake()

    async def settle_intake(self, deadline: Deadline) -> bool:
        """Wait for what is on its way in and back; False when that is not all known in time."""
        try:
            await deadline.wait_for(self._engine.intake_settled())
        except TimeoutError:
            return False
        return True

    async def drained(self, deadline: Deadline | None) -> bool:
        """Wait for the active jobs; True when none is left."""
        while tasks := self._tasks():
            timeout = None if deadline is None else deadline.remaining()
            if timeout == 0:
                return False
            await asyncio.wait(tasks, timeout=timeout, return_when="FIRST_COMPLETED")
        return True

    def abort(self, reason: AbortReason) -> None:
        """Set every active job's signal."""
        for active in self.active():
            active.signal.abort(reason)

    async def hand_back(self, deadline: Deadline) -> None:
        """Cancel what runs, wait for it, and return by script what does not end."""
        slots = self._engine.slots
        for active in self.active():
            slots.cancel(active, AbortReason.SHUTDOWN)
        await self.drained(deadline.sooner(min(1.0, deadline.remaining() / 4)))
        stuck = [active for active in self.active() if active.phase is Phase.RUNNING]
        if not stuck:
            return
        returns = [
            asyncio.create_task(slots.hand_back_now(active, AbortReason.SHUTDOWN.value))
            for active in stuck
        ]
        _, pending = await asyncio.wait(returns, timeout=deadline.remaining())
        for task in pending:
            task.cancel()
        if pending:
            # They only say that they were cut short.
            await asyncio.wait(pending, timeout=_CUT_SECONDS)

    async def close(self, deadline: Deadline | None) -> None:
        """Do all of it; without a deadline only processors may take their time."""
        self.quiet()
        await self._settle_patiently(deadline)
        await self._drain_patiently(deadline)
        if self.active():
            self.abort(AbortReason.SHUTDOWN)
            await self.hand_back(_within(deadline, _HAND_BACK_SECONDS))
        # A deadline that is over still leaves the moment that sockets and a thread need.
        await self._engine.stop(Deadline.after(_TEARDOWN_SECONDS))

    async def _settle_patiently(self, deadline: Deadline | None) -> None:
        """Settle the intake; a force that comes meanwhile leaves it a second."""
        settling = asyncio.create_task(self.settle_intake(_within(deadline, _INTAKE_SECONDS)))
        forced = asyncio.create_task(self.forced.wait())
        try:
            await asyncio.wait({settling, forced}, return_when="FIRST_COMPLETED")
            await asyncio.wait({settling}, timeout=_FORCED_INTAKE_SECONDS)
        finally:
            await end(settling, forced)

    async def _drain_patiently(self, deadline: Deadline | None) -> None:
        """Wait for active jobs until the deadline's reserve, force, or a Redis that stays away."""
        if deadline is not None:
            deadline = deadline.sooner(min(_HAND_BACK_SECONDS, deadline.remaining() / 4))
        forced = asyncio.create_task(self.forced.wait())
        try:
            while self.active() and not self.forced.is_set():
                if (deadline is not None and deadline.expired) or self._only_redis_missing():
                    return
                pause = _LOOK_SECONDS
                if deadline is not None:
                    pause = min(pause, deadline.remaining())
                waited = {forced, *self._tasks()}
                await asyncio.wait(waited, timeout=pause, return_when="FIRST_COMPLETED")
        finally:
            forced.cancel()

    def _only_redis_missing(self) -> bool:
        since = self._engine.link.lost_since or self._engine.finisher.refused_since
        no_processor = all(active.phase is not Phase.RUNNING for active in self.active())
        return no_processor and since is not None and time.monotonic() - since > _REDIS_AWAY_SECONDS

    def _tasks(self) -> set[asyncio.Task[None]]:
        return {active.task for active in self.active() if active.task is not None}


def _within(deadline: Deadline | None, seconds: float) -> Deadline:
    return Deadline.after(seconds) if deadline is None else deadline.at_most(seconds)
