"""Redis' clock as seen from here.

Scripts get this time, so that a replica with a wrong clock promotes no delayed job early. Nor does
one whose clock is set: between two looks at Redis' clock only steady time counts.
"""

from __future__ import annotations

import time

# Goes on while the machine sleeps; where it is lacking (macOS), the other one does.
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def steady_seconds() -> float:
    """Seconds that nobody sets, from some point in the past."""
    return time.clock_gettime(_STEADY)


class RedisClock:
    """Steady time and what TIME said it was when; this machine's time until the first `sync`."""

    __slots__ = ("_began_ms",)

    def __init__(self) -> None:
        #: When steady time was 0, epoch milliseconds.
        self._began_ms = (time.time() - steady_seconds()) * 1000

    def now_ms(self) -> int:
        """Epoch milliseconds by Redis' clock."""
        return int(steady_seconds() * 1000 + self._began_ms)

    def sync(self, asked_at: float, reply: list[str], answered_at: float) -> None:
        """Take over a TIME reply (`[seconds, microseconds]`); steady seconds before and after."""
        redis_ms = int(reply[0]) * 1000 + int(reply[1]) / 1000
        self._began_ms = redis_ms - (asked_at + answered_at) * 500
