"""Sleeps on the queue's marker on a connection of its own, so that an idle worker wakes at once.

Claims nothing. A marker that it pops and nobody can use is its caller's to put back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError, ResponseError

from campaign_worker.errors import CampaignWorkerError
from campaign_worker.queue.link import Backoff
from campaign_worker.queue.wire import Wire

if TYPE_CHECKING:
    from campaign_worker.queue.home import Home

#: A block that is not answered this long after its end means that the connection is dead.
_GRACE_SECONDS = 1.0
_CONNECT_SECONDS = 5.0


class Blocker:
    """Runs BZPOPMIN for as long as somebody wants to be woken."""

    def __init__(
        self,
        home: Home,
        marker: str,
        client_name: str,
        *,
        on_marker: Callable[[float], None],
        on_nothing: Callable[[], None],
        block_seconds: float,
    ) -> None:
        """`on_marker(score)`: 0 says that a job is available, else when one is due (epoch ms).

        `on_nothing()`: a block has ended without one, and only a claim can tell what there is.
        """
        self._home = home
        self._marker = marker
        self._client_name = client_name
        self._on_marker = on_marker
        self._on_nothing = on_nothing
        self._block_seconds = block_seconds
        self._wire: Wire | None = None
        self._wanted = asyncio.Event()
        #: True from before a block is sent until its reply has been handed over.
        self.blocking = False

    def want(self, *, wanted: bool) -> None:
        """Say whether a wake-up is wanted; a block under way goes on."""
        if wanted:
            self._wanted.set()
        else:
            self._wanted.clear()

    def interrupt(self) -> None:
        """End the block under way by dropping its connection: a popped marker may be lost."""
        self._wanted.clear()
        if self._wire is not None and self.blocking:
            self._wire.abort()

    async def run(self) -> None:
        """Block whenever that is wanted, until cancelled; reconnects by itself."""
        backoff = Backoff()
        try:
            while True:
                await self._wanted.wait()
                try:
                    popped = await self._block()
                except (RedisError, CampaignWorkerError, OSError, TimeoutError):
                    # The command connection reports outages; this one just comes back. A marker may
                    # be gone with it.
                    self._on_nothing()
                    await asyncio.sleep(backoff.next())
                    continue
                backoff = Backoff()
                # One wake-up at a time: the claim that follows says whether another is wanted.
                self._wanted.clear()
                if popped is None:
                    self._on_nothing()
                else:
                    self._on_marker(float(popped[2]))
        finally:
            self.blocking = False
            if self._wire is not None:
                await self._wire.aclose()

    async def _block(self) -> Any:
        wire = await self._connected()
        seconds = self._block_seconds
        self.blocking = True
        try:
            reply = wire.call("BZPOPMIN", self._marker, f"{seconds:.3f}")
            done, _ = await asyncio.wait({reply}, timeout=seconds + _GRACE_SECONDS)
            if not done:
                wire.abort(TimeoutError("a block did not end"))
            return await reply
        except ResponseError as refusal:
            # It may be the primary no more: a new connection finds the one that is.
            wire.abort(refusal)
            raise
        finally:
            self.blocking = False

    async def _connected(self) -> Wire:
        if self._wire is not None:
            if not self._wire.lost.is_set():
                return self._wire
            await self._wire.aclose()
            self._wire = None
        spec = await self._home.find()
        wire = Wire(spec.connection(), reply_timeout_seconds=None)
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                await wire.open()
                await self._introduce(wire)
        except BaseException:
            await wire.aclose()
            raise
        self._wire = wire
        return wire

    async def _introduce(self, wire: Wire) -> None:
        try:
            await wire.call("CLIENT", "SETNAME", self._client_name)
        except ResponseError:
            # Some hosted servers forbid CLIENT: then dashboards do not list this worker.
            return
