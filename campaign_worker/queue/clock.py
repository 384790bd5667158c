"""Redis' clock as seen from here.

Scripts get this time, so that a replica with a wrong clock promotes no delayed job early.
"""

from __future__ import annotations

import time


class RedisClock:
    """Local time corrected by an offset measured with TIME; uncorrected until the first `sync`."""

    __slots__ = ("_offset_ms",)

    def __init__(self) -> None:
        self._offset_ms = 0.0

    @property
    def offset_ms(self) -> float:
        """Redis' time minus ours, milliseconds."""
        return self._offset_ms

    def now_ms(self) -> int:
        """Epoch milliseconds by Redis' clock."""
        return int(time.time() * 1000 + self._offset_ms)

    def sync(self, asked_at: float, reply: list[str], answered_at: float) -> None:
        """Take over a TIME reply (`[seconds, microseconds]`), and time.time() before and after."""
        redis_ms = int(reply[0]) * 1000 + int(reply[1]) / 1000
        self._offset_ms = redis_ms - (asked_at + answered_at) * 500
