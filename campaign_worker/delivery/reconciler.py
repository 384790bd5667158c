"""What crashes left behind is found again: expired leases, due rows without a live job.

Also wakes the jobs of resumed campaigns, and completes campaigns of which nothing is open. One
replica at a time: whoever holds the lease. Ticks at start and then at an interval.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import structlog

from campaign_worker.delivery.restoring import Restoring, revive
from campaign_worker.delivery.revival import BEGINNING, Recovery, Revival
from campaign_worker.delivery.waking import Waking
from campaign_worker.errors import Away, ReconcilerTaken
from metrics import Listener, RowsReconciled
from shutdown import StartStop, end

log = structlog.get_logger(__name__)

PAGE = 1000
PAGES_PER_TICK = 5

_RELEASE_SECONDS = 1.0
_TAKEN_PAUSE_SECONDS = 0.05
_FIRST_AWAY_SECONDS = 1.0


class Reconciler(StartStop):
    """Ticks from start to stop; the first tick is at once. What a tick has committed stays."""

    def __init__(
        self,
        recovery: Recovery,
        revival: Revival,
        listener: Listener,
        *,
        drain: Callable[[], Awaitable[object]],
        interval_seconds: float,
    ) -> None:
        super().__init__()
        self._recovery = recovery
        self._revival = revival
        self._listener = listener
        self._drain = drain
        self._interval_seconds = interval_seconds
        self._restoring = Restoring(recovery, revival)
        self._waking = Waking(recovery, revival)
        self._after = BEGINNING
        self._task: asyncio.Task[None] | None = None

    async def _start(self) -> None:
        self._task = asyncio.create_task(self._tick_for_ever(), name="reconciler")

    async def _stop(self) -> None:
        task, self._task = self._task, None
        if task is None:
            return
        await end(task)
        # Nobody waits for the end of a lease that its holder gave up.
        with contextlib.suppress(Away, TimeoutError):
            async with asyncio.timeout(_RELEASE_SECONDS):
                await self._recovery.release()

    async def tick(self) -> bool:
        """Look once; whether the next look should come at once.

        Raises errors.Away, and ReconcilerTaken when another replica reconciles.
        """
        # Before any lease is looked at: an owner who is gone may have left its outcome behind.
        await self._drain()
        resolved = await self._recovery.resolve_expired()
        self._report("lease_expired_scheduled", resolved.scheduled)
        self._report("lease_expired_in_doubt", resolved.in_doubt)
        self._report("lease_expired_quarantined", resolved.quarantined)
        self._report("in_doubt_resent", resolved.resent)
        restored = await self._restoring.step()
        if restored.lost:
            log.warning("new to us, or emptied: all rows are looked at", queues=restored.lost)
        self._report("job_restored", restored.revived)
        hungry = await self._walk()
        woken = await self._waking.step()
        self._report("job_woken", woken.count)
        completed = await self._recovery.complete_campaigns()
        for campaign in completed:
            log.info("campaign completed", campaign=campaign)
        if completed:
            self._listener.on_event(RowsReconciled("campaign_completed", len(completed)))
        return restored.more or hungry or woken.more

    async def _walk(self) -> bool:
        """Look at overdue rows, a bounded number; whether most of them were in need."""
        sweep = self._revival.sweep()
        looked = revived = 0
        rows = await self._recovery.jobless_rows(PAGE)
        revived += await revive(self._recovery, sweep, rows)
        for _ in range(PAGES_PER_TICK):
            rows = await self._recovery.due_rows(self._after, PAGE, every=False)
            revived += await revive(self._recovery, sweep, rows)
            looked += len(rows)
            # The walk goes on where it was: a long backlog does not hide what lies behind it.
            self._after = rows[-1].cursor if len(rows) == PAGE else BEGINNING
            if self._after is BEGINNING:
                break
        self._report("job_revived", revived)
        return self._after is not BEGINNING and revived * 2 > looked

    async def _tick_for_ever(self) -> None:
        away_seconds = _FIRST_AWAY_SECONDS
        while True:
            pause_seconds = self._interval_seconds
            try:
                if await self.tick():
                    pause_seconds = 0.0
                away_seconds = _FIRST_AWAY_SECONDS
            except ReconcilerTaken as taken:
                # Its holder renews it, or is gone: then nobody should wait for a whole interval.
                left_seconds = taken.seconds_left + _TAKEN_PAUSE_SECONDS
                pause_seconds = min(left_seconds, self._interval_seconds)
            except Away as error:
                # Its own users hold intake and say so. One connection that broke is no outage:
                # this looks again soon, and then less and less often.
                log.debug("not reconciled", error=str(error))
                pause_seconds = min(away_seconds, self._interval_seconds)
                away_seconds *= 2
            except Exception:
                log.exception("not reconciled")
            await asyncio.sleep(pause_seconds)

    def _report(self, kind: str, count: int) -> None:
        if count:
            log.warning("reconciled", kind=kind, rows=count)
            self._listener.on_event(RowsReconciled(kind, count))
