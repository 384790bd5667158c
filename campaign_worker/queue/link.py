"""The worker's command connection: comes back by itself for as long as the worker lives.

Never repeats a command: what was under way when the connection ended fails with RedisAway, and its
caller finds out what became of it.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Any

from redis.exceptions import NoScriptError, RedisError, ResponseError

from campaign_worker.errors import CampaignWorkerError, RedisAway
from campaign_worker.queue.clock import steady_seconds
from campaign_worker.queue.protocol import Call
from campaign_worker.queue.refusals import is_elsewhere
from campaign_worker.queue.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from campaign_worker.queue.clock import RedisClock
    from campaign_worker.queue.home import Home
    from campaign_worker.queue.scripts import Script
    from campaign_worker.queue.wire import Argument

#: A reply that takes longer than this means that the connection is dead.
REPLY_TIMEOUT_SECONDS = 5.0
#: A connection that ends sooner counts as another failed attempt.
_LASTING_SECONDS = 1.0
_FIRST_BACKOFF_SECONDS = 0.05
_LAST_BACKOFF_SECONDS = 1.0


class Backoff:
    """Jittered waits between attempts to connect: 50 ms at first, 1 s at most."""

    __slots__ = ("_seconds",)

    def __init__(self) -> None:
        self._seconds = _FIRST_BACKOFF_SECONDS

    def next(self) -> float:
        """Seconds to wait before the next attempt."""
        seconds = self._seconds
        self._seconds = min(seconds * 2, _LAST_BACKOFF_SECONDS)
        return seconds * (0.5 + random.random() / 2)  # noqa: S311 - spreads load, guards nothing


class Link:
    """Script calls over one connection that is replaced whenever it is lost."""

    def __init__(
        self,
        home: Home,
        clock: RedisClock,
        scripts: Iterable[Script],
        *,
        on_connected: Callable[[], Awaitable[None]],
        on_up: Callable[[], None],
        on_error: Callable[[BaseException], None],
    ) -> None:
        """`on_connected` runs on every new connection before `on_up` and before waiters go on."""
        self._home = home
        self._clock = clock
        self._scripts = tuple(scripts)
        self._on_connected = on_connected
        self._on_up = on_up
        self._on_error = on_error
        self._wire: Wire | None = None
        self._up = asyncio.Event()
        self.lost_since: float | None = time.monotonic()

    @property
    def connected(self) -> bool:
        """True while commands can be sent."""
        return self._up.is_set()

    async def wait_connected(self) -> None:
        """Return as soon as commands can be sent. Unbounded: callers bound it."""
        await self._up.wait()

    async def run(self) -> None:
        """Keep connected until cancelled. An outage is reported once, when it begins."""
        backoff = Backoff()
        reported = False
        try:
            while True:
                try:
                    wire = await self._connect()
                except (RedisError, CampaignWorkerError, OSError, TimeoutError) as error:
                    if not reported:
                        reported = True
                        self._on_error(error)
                    await asyncio.sleep(backoff.next())
                    continue
                reported = False
                connected_at = time.monotonic()
                await wire.lost.wait()
                if time.monotonic() - connected_at < _LASTING_SECONDS:
                    await asyncio.sleep(backoff.next())
                else:
                    backoff = Backoff()
        finally:
            if self._wire is not None:
                await self._wire.aclose()

    async def call(self, script: Script, keys: Iterable[str], *arguments: Argument) -> Any:
        """Run a script. Raises RedisAway (outcome unknown) or redis.exceptions.ResponseError."""
        return await self.execute(Call(script, tuple(keys), arguments))

    async def execute(self, call: Call) -> Any:
        """Run a script as `call` does."""
        try:
            return await self.send(call)
        except ResponseError as refusal:
            return await self.refused(call, refusal)

    def send(self, call: Call) -> asyncio.Future[Any]:
        """Run a script, as `execute` does; what it raises must go through `refused`."""
        if self._wire is None:
            raise RedisAway("not connected")
        script, keys, arguments, _, head, own_keys = call
        if head is not None:
            return self._wire.send((*keys[-own_keys:], *arguments), head)
        return self._wire.send(("EVALSHA", script.sha, len(keys), *keys, *arguments))

    async def refused(self, call: Call, refusal: ResponseError) -> Any:
        """Do what can be done about a refusal: send the script's text, or raise it again."""
        if isinstance(refusal, NoScriptError):
            # Nothing was executed, so this is no repetition.
            script, keys, arguments, *_ = call
            return await self.command("EVAL", script.text, len(keys), *keys, *arguments)
        self._doubt(refusal)
        raise refusal

    async def command(self, *command: Argument) -> Any:
        """Run a plain command. Raises as `call`."""
        if self._wire is None:
            raise RedisAway("not connected")
        try:
            return await self._wire.call(*command)
        except ResponseError as refusal:
            self._doubt(refusal)
            raise

    def _doubt(self, refusal: ResponseError) -> None:
        """Drop a connection whose server is not, or no longer, the one to ask."""
        if not is_elsewhere(refusal):
            return
        if self._wire is not None and not self._wire.lost.is_set():
            # A new connection finds the new primary.
            self._on_error(refusal)
            self._wire.abort(refusal)
        raise RedisAway(f"the queue is elsewhere: {refusal}") from refusal

    async def sync_clock(self) -> None:
        """Look at Redis' clock."""
        asked_at = steady_seconds()
        reply = await self.command("TIME")
        self._clock.sync(asked_at, reply, steady_seconds())

    def _down(self) -> None:
        if self._up.is_set():
            self._up.clear()
            self.lost_since = time.monotonic()

    async def _connect(self) -> Wire:
        if self._wire is not None:
            await self._wire.aclose()
            self._wire = None
        spec = await self._home.find()
        wire = Wire(
            spec.connection(), reply_timeout_seconds=REPLY_TIMEOUT_SECONDS, on_lost=self._down
        )
        try:
            async with asyncio.timeout(REPLY_TIMEOUT_SECONDS):
                await wire.open()
            self._wire = wire
            for script in self._scripts:
                # Ahead of the first calls; a rejection shows when the script is called.
                wire.call("SCRIPT", "LOAD", script.text).add_done_callback(_retrieve)
            await self.sync_clock()
            await self._on_connected()
        except BaseException:
            await wire.aclose()
            raise
        self.lost_since = None
        self._up.set()
        self._on_up()
        return wire


def _retrieve(reply: asyncio.Future[Any]) -> None:
    if not reply.cancelled():
        reply.exception()
