"""Local events of a worker, with Node's names and arguments. A listener's fault stays its own."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any, TypeVar

_log = logging.getLogger(__name__)

Listener = Callable[..., object]
_L = TypeVar("_L", bound=Listener)

#: What a worker emits (bullmq: WorkerListener), and the arguments of each.
EVENTS = {
    "ready": (),
    "active": ("job", "prev"),
    "completed": ("job", "result", "prev"),
    "failed": ("job", "error", "prev"),
    "progress": ("job", "progress"),
    "stalled": ("job_id", "prev"),
    "drained": (),
    "error": ("error",),
    "paused": (),
    "resumed": (),
    "closing": ("message",),
    "closed": (),
    "locksRenewed": ("renewed",),
    "lockRenewalFailed": ("job_ids",),
}


class Emitter:
    """Calls listeners in the order they were added, on the event loop, synchronously."""

    def __init__(self) -> None:
        self._listeners: dict[str, list[Listener]] = {}

    def on(self, event: str, listener: _L) -> _L:
        """Add a listener.

        Raises ValueError for an event that is never emitted, TypeError for an async listener.
        """
        if event not in EVENTS:
            raise ValueError(f"a worker emits no {event!r}; it emits {', '.join(EVENTS)}")
        if inspect.iscoroutinefunction(listener):
            raise TypeError("listeners are called synchronously; start a task in a plain function")
        self._listeners.setdefault(event, []).append(listener)
        return listener

    def off(self, event: str, listener: Listener) -> None:
        """Remove a listener; unknown ones are no error."""
        listeners = self._listeners.get(event, [])
        if listener in listeners:
            listeners.remove(listener)

    def emit(self, event: str, *arguments: Any) -> None:
        """Call all listeners. What one raises becomes an `error` event, or a log line at last."""
        listeners = self._listeners.get(event)
        if not listeners:
            return
        for listener in tuple(listeners):
            try:
                listener(*arguments)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the listener's own
                if event == "error":
                    _log.exception("a listener of the event 'error' failed")
                else:
                    self.emit("error", error)
