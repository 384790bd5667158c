"""One Redis connection on which many commands are under way at a time.

redis-py connects and logs in; from then on the transport is ours. Commands of one event-loop turn
leave in one write; replies come in order. Opens no second connection and repeats nothing: when it
ends, all that is unanswered fails with RedisAway. Why not redis-py to the end: decisions/0006.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

import hiredis
from redis.asyncio.connection import DefaultParser
from redis.exceptions import AuthenticationError, InvalidResponse, RedisError, ResponseError

from campaign_worker.errors import CredentialsRefused, RedisAway

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio.connection import AbstractConnection

Argument = str | bytes | int | float


class Head(NamedTuple):
    """How commands begin that differ only in what follows `length` arguments; packed once."""

    packed: bytes
    length: int

    @classmethod
    def of(cls, *arguments: Argument) -> Head:
        """Pack the arguments that all these commands begin with."""
        return cls(_packed(arguments), len(arguments))


_NO_HEAD = Head(b"", 0)
#: A transport that was aborted needs a turn or two of the loop.
_CLOSE_SECONDS = 1.0
#: What the reader answers while a reply is incomplete; no reply is this object.
_INCOMPLETE = object()


class Wire(asyncio.Protocol):
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
        self._reader = hiredis.Reader(
            protocolError=InvalidResponse,
            replyError=DefaultParser.parse_error,
            encoding="utf-8",
            errors="replace",
            notEnoughData=_INCOMPLETE,
        )
        self._transport: asyncio.WriteTransport | None = None
        self._closed = asyncio.Event()
        self._outbox: list[bytes] = []
        self._full = False
        self._replies: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._loop = asyncio.get_running_loop()
        self._overdue: asyncio.TimerHandle | None = None
        self._cause: BaseException | None = None
        #: Set once the connection has ended, for whatever reason.
        self.lost = asyncio.Event()

    async def open(self) -> None:
        """Connect and log in. Raises RedisAway or CredentialsRefused."""
        try:
            # redis-py leaves the return type open.
            await self._connection.connect()  # type: ignore[no-untyped-call]
            # Whatever was sent to us unasked would be taken for the reply to our first command.
            unasked = await self._connection.can_read()
        except AuthenticationError as error:
            raise CredentialsRefused("connection", str(error)) from error
        except (RedisError, OSError) as error:
            raise RedisAway(f"cannot connect: {error}") from error
        # redis-py has no public way to its transport.
        writer = self._connection._writer  # noqa: SLF001
        if unasked or writer is None:
            raise RedisAway("cannot connect: closed by the server")
        self._transport = transport = writer.transport
        transport.set_protocol(self)

    def call(self, *command: Argument) -> asyncio.Future[Any]:
        """Send a command; the future brings the reply, ResponseError or RedisAway."""
        return self.send(command)

    def send(self, command: tuple[Argument, ...], head: Head | None = None) -> asyncio.Future[Any]:
        """Send a command as `call` does; with a head, `command` is what follows it."""
        reply: asyncio.Future[Any] = self._loop.create_future()
        if self._cause is not None:
            reply.set_exception(RedisAway(f"connection lost: {self._cause}"))
            return reply
        if not self._outbox:
            self._loop.call_soon(self._flush)
        begin, length = head or _NO_HEAD
        length += len(command)
        self._outbox.append(b"*%d\r\n%b%b" % (length, begin, _packed(command)))
        self._replies.append((reply, self._loop.time()))
        if self._overdue is None and self._reply_timeout is not None:
            self._overdue = self._loop.call_later(self._reply_timeout, self._check_overdue)
        return reply

    def abort(self, cause: BaseException | None = None) -> None:
        """Drop the connection now, whatever is under way on it."""
        if self._cause is not None:
            return
        self._cause = cause or RedisAway("closed here")
        self.lost.set()
        if self._on_lost is not None:
            self._on_lost()
        if self._overdue is not None:
            self._overdue.cancel()
        if self._transport is not None:
            self._transport.abort()
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
        if self._transport is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), _CLOSE_SECONDS)
        await self._connection.disconnect(nowait=True)

    def data_received(self, data: bytes) -> None:
        """Settle the replies that are complete; called by the transport."""
        reader, replies = self._reader, self._replies
        try:
            reader.feed(data)
            while (answer := reader.gets()) is not _INCOMPLETE:
                if isinstance(answer, hiredis.PushNotification):
                    continue
                refused = isinstance(answer, RedisError)
                if refused and not isinstance(answer, ResponseError):
                    # Such as LOADING: nothing can be done on this connection.
                    self.abort(answer)
                    return
                reply, _ = replies.popleft()
                if reply.done():
                    continue
                if refused:
                    reply.set_exception(answer)
                else:
                    reply.set_result(answer)
        except (InvalidResponse, IndexError) as error:
            # No RESP, or a reply to nothing: what follows cannot be told apart.
            self.abort(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """Take note of the end; called by the transport."""
        self._closed.set()
        self.abort(exc or RedisAway("closed by the server"))

    def pause_writing(self) -> None:
        """Gather commands while the transport's buffer is full; called by the transport."""
        self._full = True

    def resume_writing(self) -> None:
        """Send what was gathered; called by the transport."""
        self._full = False
        self._flush()

    def _flush(self) -> None:
        if self._full or not self._outbox or self._transport is None:
            return
        chunks, self._outbox = self._outbox, []
        self._transport.write(b"".join(chunks))

    def _check_overdue(self) -> None:
        self._overdue = None
        if not self._replies or self._reply_timeout is None:
            return
        left = self._replies[0][1] + self._reply_timeout - self._loop.time()
        if left <= 0:
            self.abort(TimeoutError(f"no reply for {self._reply_timeout} s"))
        else:
            self._overdue = self._loop.call_later(left, self._check_overdue)


def _packed(arguments: tuple[Argument, ...]) -> bytes:
    """Pack arguments without the count that opens a command."""
    # Its stub means a tuple of any length and writes a tuple of one.
    packed: bytes = hiredis.pack_command(arguments)  # type: ignore[arg-type]
    return packed[packed.index(b"\n") + 1 :]
