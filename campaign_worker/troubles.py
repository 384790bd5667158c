"""What a queue worker runs into, told at once, then every 15 s with how often, and when it is over.

Decides nothing: the worker goes on by itself, whatever it reports.
"""

from __future__ import annotations

import time

import structlog
from redis.exceptions import RedisError, ResponseError

from campaign_worker.errors import RedisAway
from metrics import ClaimPolled, Event, IntakeHeld, Listener, LockRenewal

log = structlog.get_logger(__name__)

REPEAT_SECONDS = 15.0
_REDIS = "redis"


class Troubles:
    """Hears one worker's `error` events, and its claims: one that is answered ends the trouble."""

    def __init__(self, queue: str, listener: Listener) -> None:
        self._queue = queue
        # One queue may be back while claims of another are still refused.
        self._held = f"{_REDIS} for {queue}"
        self._listener = listener
        self._since: float | None = None
        self._refused = False
        self._said_at = 0.0
        self._untold = 0
        self.reason: str | None = None
        """Why nothing is claimed, while Redis does not answer or says no; else None."""

    def note(self, error: BaseException) -> None:
        """Hear of an error. What is not about Redis is one job's, and told each time."""
        kind = type(error).__name__
        text = str(error) or kind
        if not isinstance(error, RedisError | RedisAway | OSError | TimeoutError):
            log.warning("queue", queue=self._queue, error=text, kind=kind)
            return
        now = time.monotonic()
        if self._since is None:
            self._since = now
            self._said_at = now - REPEAT_SECONDS
            self._listener.on_event(IntakeHeld(self._held, held=True))
        self._refused = isinstance(error, ResponseError)
        self.reason = f"{_REDIS}: {text}"
        self._untold += 1
        if now - self._said_at < REPEAT_SECONDS:
            return
        log.warning(
            "Redis refuses" if self._refused else "Redis does not answer",
            queue=self._queue,
            error=text,
            kind=kind,
            times=self._untold,
            waited_seconds=round(now - self._since, 1),
        )
        self._said_at, self._untold = now, 0

    def on_event(self, event: Event) -> None:
        """Hear of a claim that Redis has answered, or of locks that it renewed."""
        if self._since is None or not self._is_over(event):
            return
        waited = round(time.monotonic() - self._since, 1)
        self._since = self.reason = None
        self._untold = 0
        self._listener.on_event(IntakeHeld(self._held, held=False))
        log.info("back", what="Redis", queue=self._queue, waited_seconds=waited)

    def _is_over(self, event: Event) -> bool:
        match event:
            case ClaimPolled():
                return True
            case LockRenewal(result="ok"):
                # A full Redis renews locks, and refuses claims all the same.
                return not self._refused
            case _:
                return False
