"""Who hears of events. Owns the fan-out; never lets a listener's fault reach the one who tells."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from metrics.events import Event

logger = logging.getLogger(__name__)

LOG_EVERY = 1000
"""The first failure of a listener is logged, then every thousandth: a log has its own limits."""


class Listener(Protocol):
    """Hears of every event, in the event loop, in between two jobs: it must not block."""

    def on_event(self, event: Event) -> None:
        """Take note of one event."""


class Fanout:
    """A listener that passes each event on to others, whatever one of them raises."""

    def __init__(self, *listeners: Listener) -> None:
        self._listeners = listeners
        self._failures = 0

    @property
    def failures(self) -> int:
        """How often a listener has raised."""
        return self._failures

    def on_event(self, event: Event) -> None:
        """Pass the event on; never raises what a listener raises, but counts and logs it."""
        for listener in self._listeners:
            try:
                listener.on_event(event)
            except Exception:
                self._failures += 1
                if self._failures % LOG_EVERY == 1:
                    logger.exception(
                        "a metrics listener failed",
                        extra={
                            "listener": type(listener).__name__,
                            "event_type": type(event).__name__,
                            "failures": self._failures,
                        },
                    )
