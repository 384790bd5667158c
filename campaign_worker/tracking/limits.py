"""How often one link may be recorded in a minute, and one client: a loop must not fill the table.

Memory is fixed: keys are counted in two rows of counters (a count-min sketch, Cormode and
Muthukrishnan 2005), which may count a key too high, never too low. Knows no request.
"""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import Callable
from typing import Final

_CELLS: Final = 1 << 16
_MASK: Final = _CELLS - 1
WINDOW_SECONDS: Final = 60.0


class RateLimit:
    """Lets through `per_minute` of each key and minute; 0: all of them.

    A key is text: its hash has a secret of the process, so nobody can aim at another's counters.
    """

    def __init__(self, per_minute: int, now_seconds: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._now_seconds = now_seconds
        self._until_seconds = -math.inf
        self._rows = (_empty(), _empty())

    def allows(self, key: str) -> bool:
        """Count one more of this key, and say whether it may pass."""
        if not self._per_minute:
            return True
        now_seconds = self._now_seconds()
        if now_seconds >= self._until_seconds:
            self._until_seconds = now_seconds + WINDOW_SECONDS
            self._rows = (_empty(), _empty())
        digest = hash(key)
        one, other = self._rows
        first, second = digest & _MASK, (digest >> 16) & _MASK
        one[first] = seen = one[first] + 1
        other[second] = seen_too = other[second] + 1
        return seen <= self._per_minute or seen_too <= self._per_minute


def _empty() -> array[int]:
    return array("L", bytes(_CELLS * array("L").itemsize))
