"""Stops a transport whose recipients suddenly seem dead: a blocklisting must not suppress a list.

Over 10 % hard bounces among the last 100 RCPTs, that is 11 of them, however few RCPTs there were:
then the transport rests, suppressions of the window are taken back, and further ones are withheld
until a full window has been healthy again. Pure: the time is passed in. One for each process.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import structlog

from campaign_worker.errors import TooManyBounces
from metrics import IntakeHeld, Listener

log = structlog.get_logger(__name__)

WINDOW = 100
MOST_HARD = 10
"""Hard bounces that a window may have: 10 %."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What follows from one mail's answers.

    `suppress`: hard bounces may be believed. `tripped`: the transport rests from now on, and the
    suppressions of the rows in `withdraw` are to be taken back.
    """

    suppress: bool = True
    tripped: bool = False
    withdraw: tuple[int, ...] = ()


class Breaker:
    """The state machine of one transport. `now` is monotonic, in seconds."""

    def __init__(self, pause_seconds: float) -> None:
        self._pause_seconds = pause_seconds
        self._window: deque[int | None] = deque(maxlen=WINDOW)
        self._rests_until = -math.inf
        self._proving = False

    def rest_seconds(self, now: float) -> float:
        """How long the transport still rests; 0 if it does not."""
        return max(0.0, self._rests_until - now)

    def note(self, row: int, *, hard: int, other: int, now: float) -> Judgement:
        """Take note of one mail's RCPTs: those that bounced hard, and all others."""
        if self.rest_seconds(now) > 0:
            # It was on its way before: the window that will be judged begins after the rest.
            return Judgement(suppress=False)
        self._window.extend([None] * other + [row] * hard)
        bounced = [one for one in self._window if one is not None]
        if len(bounced) > MOST_HARD:
            self._window.clear()
            self._rests_until = now + self._pause_seconds
            self._proving = True
            return Judgement(suppress=False, tripped=True, withdraw=tuple(sorted(set(bounced))))
        if len(self._window) == WINDOW:
            self._proving = False
        return Judgement(suppress=not self._proving)


class Breakers:
    """The breakers of all transports, and what they tell: a log line, a metric, a reason."""

    def __init__(
        self,
        names: Iterable[str],
        listener: Listener,
        *,
        pause_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._breakers = {name: Breaker(pause_seconds) for name in names}
        self._listener = listener
        self._clock = clock
        self._told: set[str] = set()

    @property
    def reasons(self) -> list[str]:
        """Why which transport rests, for /health."""
        now = self._clock()
        return [_reason(name) for name, one in self._breakers.items() if one.rest_seconds(now) > 0]

    def check(self, transport: str) -> None:
        """Raise TooManyBounces while the transport rests."""
        seconds = self.rest_seconds(transport)
        if seconds > 0:
            raise TooManyBounces(transport, seconds)
        if transport in self._told:
            self._told.discard(transport)
            log.warning("a transport is tried again after too many bounces", transport=transport)
            self._listener.on_event(IntakeHeld(_reason(transport), held=False))

    def rest_seconds(self, transport: str) -> float:
        """How long a transport still rests; 0 if it does not."""
        return self._breakers[transport].rest_seconds(self._clock())

    def note(self, transport: str, row: int, *, hard: int, other: int) -> Judgement:
        """Take note of one mail's RCPTs, and tell when that is too much."""
        breaker, now = self._breakers[transport], self._clock()
        judgement = breaker.note(row, hard=hard, other=other, now=now)
        if judgement.tripped:
            self._told.add(transport)
            log.error(
                "over 10 % hard bounces: the transport rests, and nobody is suppressed for them",
                transport=transport,
                rows=list(judgement.withdraw),
                rest_seconds=breaker.rest_seconds(now),
            )
            self._listener.on_event(IntakeHeld(_reason(transport), held=True))
        return judgement


def _reason(transport: str) -> str:
    return f"hard bounces of {transport}"
