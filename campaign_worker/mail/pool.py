"""A bounded number of SMTP connections, handed out in the order of asking and used again.

Owns when a connection is opened, kept, said goodbye to or dropped. Knows nothing of mails.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from campaign_worker.errors import SmtpPhase, TransportDown
from campaign_worker.mail.dialogue import Connection
from shutdown import Deadline

QUIT_SECONDS = 1.0
CANCEL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """Bounds of a pool; `name` is the transport's, for errors."""

    name: str
    max_connections: int
    idle_timeout_seconds: float
    messages_per_connection: int


class Lease:
    """A connection that is held; `replace` swaps it for a fresh one."""

    def __init__(self, pool: Pool, connection: Connection) -> None:
        self._pool = pool
        self.connection = connection

    async def replace(self) -> None:
        """Drop the connection and open another. Raises errors.TransportDown."""
        self.connection.abort()
        self.connection = await self._pool.fresh()


class Pool:
    """Connections made by `connect`, which raises errors.TransportDown."""

    def __init__(self, connect: Callable[[], Awaitable[Connection]], options: PoolOptions) -> None:
        self._connect = connect
        self._options = options
        self._places = asyncio.Semaphore(options.max_connections)
        # Freshest last: the connection used last is the least likely to have gone stale.
        self._idle: deque[tuple[Deadline, Connection]] = deque()
        self._held: set[Lease] = set()
        self._farewells: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[Lease]:
        """Wait for a place (FIFO) and hold a connection. Raises errors.TransportDown."""
        async with self._places:
            lease = Lease(self, self._kept() or await self.fresh())
            self._held.add(lease)
            try:
                yield lease
            finally:
                self._held.discard(lease)
                self._take_back(lease.connection)

    async def fresh(self) -> Connection:
        """Open a connection. Raises errors.TransportDown, also when the pool is closed."""
        self._check_open()
        connection = await self._connect()
        if self._closed:
            connection.abort()
        self._check_open()
        return connection

    async def close(self, deadline: Deadline) -> None:
        """Say QUIT on idle connections, briefly, then drop all; from now leases raise."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for _, connection in self._idle:
            self._farewell(connection)
        self._idle.clear()
        if self._farewells:
            await asyncio.wait(self._farewells, timeout=deadline.at_most(QUIT_SECONDS).remaining())
        late = {task for task in self._farewells if not task.done()}
        for task in late:
            task.cancel()
        for lease in self._held:
            lease.connection.abort()
        if late:
            await asyncio.wait(late, timeout=CANCEL_SECONDS)
        # The transports end in the next turn of the loop.
        await asyncio.sleep(0)

    def _check_open(self) -> None:
        if self._closed:
            raise TransportDown(self._options.name, SmtpPhase.CONNECT, "the transport is closed")

    def _kept(self) -> Connection | None:
        self._check_open()
        while self._idle:
            _, connection = self._idle.pop()
            if connection.reusable:
                return connection
            connection.abort()
        return None

    def _take_back(self, connection: Connection) -> None:
        if not connection.reusable:
            connection.abort()
        elif connection.mails >= self._options.messages_per_connection:
            self._farewell(connection)
        else:
            expiry = Deadline.after(self._options.idle_timeout_seconds)
            self._idle.append((expiry, connection))
            self._arm()

    def _farewell(self, connection: Connection) -> None:
        task = asyncio.create_task(connection.quit(QUIT_SECONDS))
        self._farewells.add(task)
        task.add_done_callback(self._farewells.discard)

    def _arm(self) -> None:
        if self._timer is None and self._idle:
            seconds = self._idle[0][0].remaining()
            self._timer = asyncio.get_running_loop().call_later(seconds, self._expire)

    def _expire(self) -> None:
        self._timer = None
        while self._idle and self._idle[0][0].expired:
            self._farewell(self._idle.popleft()[1])
        self._arm()
