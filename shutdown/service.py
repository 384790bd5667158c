"""What every long-lived part promises about start and stop, and a base class that keeps it.

Knows nothing of what a service does, and sets no time limit: who calls stop() brings the deadline.
"""

from __future__ import annotations

import abc
import asyncio
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Coroutine


class Service(Protocol):
    """Something that is started and stopped.

    Both are idempotent and may be called at any time, in any order, concurrently. A stop before any
    start is legal. start() returns when the service runs, stop() when it has stopped; concurrent
    calls share one run. A stop during a start ends the start. A stopped service can be started
    again. `testing.stress` holds a service to this.
    """

    async def start(self) -> None:
        """Return when the service runs; raise what kept it from that, leaving nothing behind."""

    async def stop(self) -> None:
        """Return when the service has stopped. A caller who is cancelled may call it again."""


class StoppedWhileStarting(Exception):
    """A stop() came before this start() was through; the service is stopped."""


class _Run:
    """One run of a start or a stop that several callers await; the last to give up cancels it."""

    def __init__(self, work: Coroutine[Any, Any, None], *, starts: bool) -> None:
        self.starts = starts
        self.countermanded = False
        self._callers = 0
        self._task = asyncio.create_task(work)

    def done(self) -> bool:
        return self._task.done()

    def cancelled(self) -> bool:
        return self._task.cancelled()

    def result(self) -> None:
        self._task.result()

    def countermand(self) -> None:
        """Cancel a start because a stop came; once, so that its cleanup is left in peace."""
        if not self.countermanded:
            self.countermanded = True
            self._task.cancel()

    async def ended(self) -> None:
        """Wait until the run is over, whatever came of it."""
        self._callers += 1
        try:
            # asyncio.wait, unlike await, leaves the task alone when this caller is cancelled.
            await asyncio.wait({self._task})
        except asyncio.CancelledError:
            if self._callers == 1:
                self._task.cancel()
                await asyncio.wait({self._task})
                if not self._task.cancelled():
                    self._task.exception()
            raise
        finally:
            self._callers -= 1


class StartStop(abc.ABC):
    """Keeps the promise of `Service`; subclasses say how in `_start` and `_stop`.

    `_stop` is called after every `_start` that began, also one that failed or was cancelled, and
    again if it failed itself: it must cope with parts that are not there. The two never overlap.
    """

    def __init__(self) -> None:
        self._running = False
        self._unclean = False
        self._run: _Run | None = None

    @abc.abstractmethod
    async def _start(self) -> None:
        """Bring the service up; return when it runs."""

    @abc.abstractmethod
    async def _stop(self) -> None:
        """Take down whatever is up."""

    @property
    def running(self) -> bool:
        """Whether a start is through and no stop has begun since."""
        return self._running

    async def start(self) -> None:
        """Return when the service runs; StoppedWhileStarting if a stop() came before that."""
        while True:
            run = self._run
            if run is None or run.done():
                if self._running:
                    return
                run = self._run = _Run(self._bring_up(), starts=True)
            await run.ended()
            if not run.starts:
                continue
            if not run.cancelled():
                run.result()
                return
            if run.countermanded:
                raise StoppedWhileStarting

    async def stop(self) -> None:
        """Return when the service has stopped."""
        while True:
            run = self._run
            if run is None or run.done():
                if not self._unclean:
                    return
                run = self._run = _Run(self._take_down(), starts=False)
            if run.starts:
                run.countermand()
            await run.ended()
            if not run.starts and not run.cancelled():
                run.result()
                return

    async def _bring_up(self) -> None:
        if self._unclean:
            await self._take_down()
        self._unclean = True
        try:
            await self._start()
        except BaseException as error:
            try:
                await self._take_down()
            except Exception as second:  # noqa: BLE001 - the first error is the one to report
                error.add_note(f"and stopping what had started failed: {second!r}")
            raise
        self._running = True

    async def _take_down(self) -> None:
        self._running = False
        await self._stop()
        self._unclean = False
