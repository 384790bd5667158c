"""Tokens of this worker, and which of them are on their way to Redis to claim a job."""

from __future__ import annotations

import asyncio
import uuid


class Tokens:
    """Makes `<uuid4>:<n>` and remembers which may just be bringing a job."""

    def __init__(self) -> None:
        self.worker_id = str(uuid.uuid4())
        #: What every token of this worker begins with.
        self.prefix = f"{self.worker_id}:"
        self._count = 0
        self._out: set[str] = set()
        self._none_out = asyncio.Event()
        self._none_out.set()

    def take(self) -> str:
        """Return a new token."""
        self._count += 1
        return f"{self.prefix}{self._count}"

    def sent(self, token: str) -> None:
        """Note that a script which may claim a job under `token` is about to be sent."""
        self._out.add(token)
        self._none_out.clear()

    def answered(self, token: str) -> None:
        """Its reply was dealt with, or will never come."""
        self._out.discard(token)
        if not self._out:
            self._none_out.set()

    def is_out(self, token: str) -> bool:
        """Tell whether a claim under `token` is under way."""
        return token in self._out

    async def all_answered(self) -> None:
        """Return when no claim is under way. Unbounded: callers bound it."""
        await self._none_out.wait()
