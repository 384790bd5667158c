"""From POSIX signals to awaitables. Owns the handlers while entered and puts the old ones back.

A handler only records what came, stamps the one deadline and calls a hook; it never stops anything.
"""

from __future__ import annotations

import asyncio
import enum
import signal
from typing import TYPE_CHECKING, Any, Self

from shutdown.deadline import Deadline

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType


class StopLevel(enum.IntEnum):
    """How urgently somebody wants the process to end; it only ever rises."""

    NONE = 0
    DRAIN = 1
    """First SIGTERM or SIGINT: finish what is active."""
    ABORT = 2
    """Second: stop at the next safe point."""
    EXIT = 3
    """Third: end now."""


class Signals:
    """Context manager over SIGTERM, SIGINT and SIGTSTP for the loop that runs in the main thread.

    `drain_seconds` is what the deadline allows from the first signal on. `on_level` is called
    inside the handler, so that it works while the loop is blocked: it must be quick and re-entrant,
    as `Watchdog.arm` is. SIGTSTP means quiet only: no deadline, no level.
    """

    def __init__(
        self,
        drain_seconds: float,
        on_level: Callable[[StopLevel, Deadline], None] | None = None,
    ) -> None:
        self._drain_seconds = drain_seconds
        self._on_level = on_level
        self._level = StopLevel.NONE
        self._deadline: Deadline | None = None
        self._quiet = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reached = {level: asyncio.Event() for level in StopLevel if level}
        self._quieted = asyncio.Event()
        self._previous: dict[signal.Signals, Any] = {}

    @property
    def level(self) -> StopLevel:
        """The highest level that was asked for; true at once, also before the loop has turned."""
        return self._level

    @property
    def deadline(self) -> Deadline | None:
        """Stamped when the first stop signal came; never moved after that."""
        return self._deadline

    @property
    def quiet(self) -> bool:
        """Whether nothing new should be taken: a SIGTSTP or a stop signal came."""
        return self._quiet

    async def stop_requested(self) -> Deadline:
        """Wait for the first stop signal; the deadline that it stamped."""
        await self._reached[StopLevel.DRAIN].wait()
        if self._deadline is None:
            raise RuntimeError("a stop level without a deadline")
        return self._deadline

    async def escalated(self, level: StopLevel = StopLevel.ABORT) -> None:
        """Wait until the level is at least `level`."""
        if level:
            await self._reached[level].wait()

    async def quiet_requested(self) -> None:
        """Wait for SIGTSTP or a stop signal, whichever comes first."""
        await self._quieted.wait()

    def request_stop(self) -> Deadline:
        """Ask for a stop from within, as a first signal would; does not escalate one under way."""
        if self._deadline is None:
            self._raise_level()
            self._publish()
        return self._stamp()

    def __enter__(self) -> Self:
        """Install the handlers; ValueError outside the main thread, RuntimeError without a loop."""
        self._loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTSTP):
            self._previous[number] = signal.getsignal(number)
            # The loop's own registration sets the wakeup descriptor: a loop that waits in C code
            # (uvloop) turns, whichever thread the kernel gave the signal to.
            self._loop.add_signal_handler(number, self._publish)
            # A plain handler in its place runs also while the loop is blocked in Python code, so
            # that the deadline counts from the signal and not from the loop's next turn.
            signal.signal(number, self._record)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Put back the handlers that were there."""
        for number, previous in self._previous.items():
            if self._loop is not None and not self._loop.is_closed():
                self._loop.remove_signal_handler(number)
            # None: the handler was not installed from Python and cannot be put back.
            signal.signal(number, signal.SIG_DFL if previous is None else previous)
        self._previous.clear()
        self._loop = None

    def _record(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGTSTP:
            self._quiet = True
        else:
            self._raise_level()
        self._wake()

    def _raise_level(self) -> None:
        self._quiet = True
        deadline = self._stamp()
        self._level = StopLevel(min(self._level + 1, StopLevel.EXIT))
        if self._on_level is not None:
            self._on_level(self._level, deadline)

    def _stamp(self) -> Deadline:
        if self._deadline is None:
            self._deadline = Deadline.after(self._drain_seconds)
        return self._deadline

    def _wake(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._publish)

    def _publish(self) -> None:
        """In the loop: tell whoever waits. Idempotent, as it is called twice a signal."""
        if self._quiet:
            self._quieted.set()
        for level, event in self._reached.items():
            if self._level >= level:
                event.set()
