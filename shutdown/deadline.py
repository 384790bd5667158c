"""One point in monotonic time, computed once and passed down. Never reads the wall clock."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, order=True)
class Deadline:
    """A point in `time.monotonic()` seconds. Deadlines compare: the smaller is the sooner."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """Return the deadline `seconds` from now; ValueError for NaN."""
        if math.isnan(seconds):
            raise ValueError("a deadline cannot be NaN: it would never expire")
        return cls(time.monotonic() + seconds)

    def remaining(self) -> float:
        """Seconds that are left, never below 0."""
        return max(0.0, self.at - time.monotonic())

    @property
    def expired(self) -> bool:
        """Whether nothing is left."""
        return time.monotonic() >= self.at

    def sooner(self, seconds: float) -> Deadline:
        """Return this deadline moved `seconds` earlier: a reserve for what comes after."""
        return Deadline(self.at - seconds)

    def at_most(self, seconds: float) -> Deadline:
        """Return the sooner of this deadline and `seconds` from now."""
        return min(self, Deadline.after(seconds))

    def limit(self) -> asyncio.Timeout:
        """Bound a body: `async with deadline.limit():` cancels it here and raises TimeoutError.

        A body that is entered late still runs up to its first suspension.
        """
        return asyncio.timeout(self.remaining())

    async def wait_for(self, awaitable: Awaitable[_T]) -> _T:
        """Await it; when the deadline comes first, cancel it and raise TimeoutError."""
        async with self.limit():
            return await awaitable
