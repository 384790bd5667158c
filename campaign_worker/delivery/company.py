"""Who sends beside whom: most mails side by side, one that may kill its process alone.

Owns the waiting, first come, first served. Knows neither mails nor rows.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator


class Company:
    """A gate for many at once, or for one alone. Nobody overtakes who waits."""

    def __init__(self) -> None:
        self._inside = 0
        self._closed = False
        self._waiting: deque[tuple[asyncio.Future[None], bool]] = deque()

    @contextlib.asynccontextmanager
    async def beside(self) -> AsyncIterator[None]:
        """Be inside with others; waits while somebody is alone, or waits to be."""
        async with self._entered(alone=False):
            yield

    @contextlib.asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Be the only one inside; waits until the others have left."""
        async with self._entered(alone=True):
            yield

    @contextlib.asynccontextmanager
    async def _entered(self, *, alone: bool) -> AsyncIterator[None]:
        if self._waiting or not self._room(alone=alone):
            await self._wait(alone=alone)
        else:
            self._enter(alone=alone)
        try:
            yield
        finally:
            self._leave()

    def _room(self, *, alone: bool) -> bool:
        return self._inside == 0 if alone else not self._closed

    def _enter(self, *, alone: bool) -> None:
        self._inside += 1
        self._closed = alone

    def _leave(self) -> None:
        self._inside -= 1
        self._closed = False
        self._admit()

    async def _wait(self, *, alone: bool) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        place = (turn, alone)
        self._waiting.append(place)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                # Let in and cancelled in the same moment.
                self._leave()
            else:
                self._waiting.remove(place)
                self._admit()
            raise

    def _admit(self) -> None:
        while self._waiting:
            turn, alone = self._waiting[0]
            # One that was cancelled takes its place away itself, and admits again.
            if turn.cancelled() or not self._room(alone=alone):
                return
            self._waiting.popleft()
            self._enter(alone=alone)
            turn.set_result(None)
