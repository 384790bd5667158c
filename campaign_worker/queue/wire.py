"""One Redis connection on which many commands are under way at a time.

Commands of one event-loop turn leave in one write; replies come in order. Opens no second
connection and repeats nothing: when it ends, all that is unanswered fails with RedisAway.
A thinner transport can take its place: `open`, `call`, `abort`, `aclose`, `lost`.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from typing import TYPE_CHECKING, Any

import hiredis
from redis.exceptions import AuthenticationError, RedisError, ResponseError

from campaign_worker.errors import CredentialsRefused, RedisAway

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio.connection import AbstractConnection

Argument = str | bytes | int | float


class Wire:
    """A connection in use. Not for reuse after it was lost."""

    def __init__(
        self,
        connection: AbstractConnection,
        *,
        reply_timeout_seconds: float | None,
        on_lost: Callable[[], None] | None = None,
    ) -> None:
        """`reply_timeout_seconds` bounds the wait for the oldest reply; None waits for ever.

        `on_lost` is called once, before any caller learns that its reply will not come.
        """
        self._on_lost = on_lost
        self._connection = connection
        self._reply_timeout = reply_timeout_seconds
        self._outbox: list[bytes] = []
        self._replies: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._outgoing = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._tasks: list[asyncio.Task[None]] = []
        self._overdue: asyncio.TimerHandle | None = None
        self._cause: BaseException | None = None
        #: Set once the connection has ended, for whatever reason.
        self.lost = asyncio.Event()

    async def open(self) -> None:
        """Connect and log in. Raises RedisAway or CredentialsRefused."""
        try:
            # redis-py leaves the return type open.
            await self._connection.connect()  # type: ignore[no-untyped-call]
        except AuthenticationError as error:
            raise CredentialsRefused("connection", str(error)) from error
        except (RedisError, OSError) as error:
            raise RedisAway(f"cannot connect: {error}") from error
        self._tasks = [
            asyncio.create_task(self._write(), name="redis-writer"),
            asyncio.create_task(self._read(), name="redis-reader"),
        ]
        for task in self._tasks:
            task.add_done_callback(self._task_ended)

    def call(self, *command: Argument) -> asyncio.Future[Any]:
        """Send a command; the future brings the reply, ResponseError or RedisAway."""
        reply: asyncio.Future[Any] = self._loop.create_future()
        if self.lost.is_set():
            reply.set_exception(RedisAway(f"connection lost: {self._cause}"))
            return reply
        # Its stub means a tuple of any length and writes a tuple of one.
        packed = hiredis.pack_command(command)  # type: ignore[arg-type]
        self._outbox.append(packed)
        self._replies.append((reply, self._loop.time()))
        self._outgoing.set()
        if self._overdue is None and self._reply_timeout is not None:
            self._overdue = self._loop.call_later(self._reply_timeout, self._check_overdue)
        return reply

    def abort(self, cause: BaseException | None = None) -> None:
        """Drop the connection now, whatever is under way on it."""
        if self.lost.is_set():
            return
        self._cause = cause or RedisAway("closed here")
        self.lost.set()
        if self._on_lost is not None:
            self._on_lost()
        if self._overdue is not None:
            self._overdue.cancel()
        for task in self._tasks:
            task.cancel()
        for reply, _ in self._replies:
            if not reply.done():
                reply.set_exception(RedisAway(f"connection lost: {self._cause}"))
                # Whoever waited may be gone with the connection.
                reply.exception()
        self._replies.clear()
        self._outbox.clear()

    async def aclose(self) -> None:
        """Drop the connection and wait until nothing of it is left; never waits for Redis."""
        self.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._connection.disconnect(nowait=True)

    async def _write(self) -> None:
        while True:
            await self._outgoing.wait()
            self._outgoing.clear()
            chunks, self._outbox = self._outbox, []
            await self._connection.send_packed_command(chunks, check_health=False)

    async def _read(self) -> None:
        while True:
            try:
                answer = await self._connection.read_response(timeout=math.inf)
            except ResponseError as refusal:
                answer = refusal
            self._settle(answer)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        # Neither task ends while the connection lives, whatever the reason.
        self.abort(None if task.cancelled() else task.exception())

    def _settle(self, answer: Any) -> None:
        reply, _ = self._replies.popleft()
        if reply.done():
            return
        if isinstance(answer, ResponseError):
            reply.set_exception(answer)
        else:
            reply.set_result(answer)

    def _check_overdue(self) -> None:
        self._overdue = None
        if not self._replies or self._reply_timeout is None:
            return
        left = self._replies[0][1] + self._reply_timeout - self._loop.time()
        if left <= 0:
            self.abort(TimeoutError(f"no reply for {self._reply_timeout} s"))
        else:
            self._overdue = self._loop.call_later(left, self._check_overdue)
