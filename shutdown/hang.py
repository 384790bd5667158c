"""Ends a process that hangs: its loop, or something else that has to move, stands still too long.

A thread looks. It judges only what it saw standing still twice in a row, and nothing of the time in
which it could not look itself: a process that was frozen and thawed is not one that hangs.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from shutdown.exit_codes import ExitCode
from shutdown.saying import say_line, say_text

if TYPE_CHECKING:
    from types import TracebackType

LOOKS_PER_LIMIT: Final = 8
LOOK_SECONDS_MOST: Final = 5.0

LATE_LOOKS: Final = 3
"""A look that comes this many intervals after the last one: the whole process stood still."""

LOOKS_IN_A_ROW: Final = 2
JOIN_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Vital:
    """Something that has to move.

    `still_seconds` says for how long it has not, 0 while it need not; it is asked in the loop.
    """

    name: str
    limit_seconds: float
    still_seconds: Callable[[], float]


class HangGuard:
    """Context manager in a running loop; exit code 70, one line and all stacks when it bites.

    `loop_limit_seconds`: how long the loop may be blocked. `vitals`: what else has to move.
    `last_words` is called in the guard's thread. Code that holds the GIL all the while stops this
    thread too; only a signal and the `Watchdog`, whose second layer needs no GIL, end that.
    """

    def __init__(
        self,
        loop_limit_seconds: float,
        last_words: Callable[[], str],
        vitals: Sequence[Vital] = (),
        *,
        descriptor: int = 2,
    ) -> None:
        self._limits = {"event loop": loop_limit_seconds} | {
            vital.name: vital.limit_seconds for vital in vitals
        }
        shortest = min(self._limits.values()) / LOOKS_PER_LIMIT
        self._look_seconds = min(LOOK_SECONDS_MOST, shortest)
        self._vitals = tuple(vitals)
        self._last_words = last_words
        self._descriptor = descriptor
        # Replaced as a whole by the loop, read by the thread.
        self._seen: tuple[float, dict[str, float]] = (time.monotonic(), {})
        self._quit = threading.Event()
        self._thread: threading.Thread | None = None
        self._beat: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        """Start to beat and to look; RuntimeError without a running loop."""
        self._beat_on(asyncio.get_running_loop())
        self._thread = threading.Thread(target=self._watch, name="hang-guard", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop both."""
        self._quit.set()
        if self._beat is not None:
            self._beat.cancel()
        if self._thread is not None:
            self._thread.join(JOIN_SECONDS)

    def _beat_on(self, loop: asyncio.AbstractEventLoop) -> None:
        still = {vital.name: vital.still_seconds() for vital in self._vitals}
        self._seen = (time.monotonic(), still)
        if not self._quit.is_set():
            self._beat = loop.call_later(self._look_seconds / 2, self._beat_on, loop)

    def _watch(self) -> None:
        awake_since = looked_at = time.monotonic()
        in_a_row = 0
        while not self._quit.wait(self._look_seconds):
            now = time.monotonic()
            if now - looked_at > LATE_LOOKS * self._look_seconds:
                awake_since = now
            looked_at = now
            hanging = self._hanging(now, now - awake_since)
            in_a_row = in_a_row + 1 if hanging else 0
            if hanging and in_a_row >= LOOKS_IN_A_ROW:
                self._end(hanging)

    def _hanging(self, now: float, awake_seconds: float) -> str | None:
        """Say what stands still beyond its limit; time before the process was awake is none."""
        beat_at, still = self._seen
        for name, seconds in {"event loop": now - beat_at, **still}.items():
            lasting = min(seconds, awake_seconds)
            if lasting > self._limits[name]:
                return f"{name} stood still for {lasting:.1f} s"
        return None

    def _end(self, what: str) -> None:
        # Whoever holds a lock that the words need must not keep the process alive.
        threading.Thread(target=self._end_anyway, daemon=True).start()
        say_line(self._descriptor, f"{self._words()}: {what}; all stacks follow")
        say_text(self._descriptor, _stacks())
        os._exit(ExitCode.INTERNAL_ERROR)

    def _end_anyway(self) -> None:
        time.sleep(JOIN_SECONDS)
        os._exit(ExitCode.INTERNAL_ERROR)

    def _words(self) -> str:
        try:
            return self._last_words()
        except BaseException as error:  # noqa: BLE001 - nothing may stand between us and the end
            return f"what was left is unknown: {error!r}"


def _stacks() -> str:
    """Return the stack of every thread, by Python: faulthandler's own writing may block."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    parts = []
    for ident, frame in sys._current_frames().items():  # noqa: SLF001 - documented, for this
        parts.append(f'Thread "{names.get(ident, ident)}", innermost call last:\n')
        parts.extend(traceback.format_stack(frame))
    return "".join(parts)
