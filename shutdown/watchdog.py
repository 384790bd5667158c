"""Ends the process at the deadline when nothing else does. Never tidies up, never waits for a lock.

Two layers, because a thread cannot run while C code holds the GIL: a daemon thread, and half a
second later a timer of faulthandler, which needs no GIL. (faulthandler has one timer a process.)
"""

from __future__ import annotations

import enum
import faulthandler
import os
import queue
import threading
from typing import TYPE_CHECKING, Final, NoReturn, Self

from shutdown.exit_codes import ExitCode
from shutdown.saying import say_line

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from shutdown.deadline import Deadline

STACKS_AFTER_SECONDS: Final = 0.5
"""How long after the deadline the second layer writes all stacks and ends the process with 1."""

JOIN_SECONDS: Final = 1.0


class _Order(enum.Enum):
    DISARM = enum.auto()
    QUIT = enum.auto()


class Watchdog:
    """A thread that is started early and armed late.

    `last_words` says in one line what was left; it is called in the watchdog's thread, at the
    deadline, and must not take locks that a blocked loop may hold. The line goes to `descriptor`.
    """

    def __init__(self, last_words: Callable[[], str], *, descriptor: int = 2) -> None:
        self._last_words = last_words
        self._descriptor = descriptor
        # SimpleQueue.put is re-entrant: a signal handler may interrupt another put of this thread.
        self._orders: queue.SimpleQueue[Deadline | _Order] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread; idempotent. Nothing is threatened until arm()."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Disarm and end the thread; idempotent."""
        self.disarm()
        if self._thread is not None:
            self._orders.put(_Order.QUIT)
            self._thread.join(JOIN_SECONDS)
            self._thread = None

    def arm(self, deadline: Deadline) -> None:
        """End the process at `deadline` with `ExitCode.WATCHDOG`; a later call moves the deadline.

        Safe in a Python signal handler. RuntimeError before start().
        """
        if self._thread is None:
            raise RuntimeError("the watchdog is armed before it is started")
        self._orders.put(deadline)
        faulthandler.dump_traceback_later(
            deadline.remaining() + STACKS_AFTER_SECONDS, exit=True, file=self._descriptor
        )

    def disarm(self) -> None:
        """Call both layers off; idempotent."""
        faulthandler.cancel_dump_traceback_later()
        self._orders.put(_Order.DISARM)

    def end_now(self, code: ExitCode = ExitCode.FORCED) -> NoReturn:
        """Say the last words and end the process with `code`, from any thread or handler."""
        say_line(self._descriptor, self._line())
        os._exit(code)

    def __enter__(self) -> Self:
        """Start the thread."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Disarm and end the thread."""
        self.stop()

    def _watch(self) -> None:
        deadline: Deadline | None = None
        while True:
            try:
                order = self._orders.get(timeout=None if deadline is None else deadline.remaining())
            except queue.Empty:
                self.end_now(ExitCode.WATCHDOG)
            if order is _Order.QUIT:
                return
            deadline = None if isinstance(order, _Order) else order

    def _line(self) -> str:
        try:
            return self._last_words()
        except BaseException as error:  # noqa: BLE001 - nothing may stand between us and the end
            return f"the deadline is over; what was left is unknown: {error!r}"
