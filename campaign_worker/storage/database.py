"""The Postgres pool: opens, hands out transactions, closes within a deadline. Knows no table.

Behind a transaction pooler no prepared statement is named and every statement runs inside a
transaction, because the next one may reach another server connection.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from campaign_worker.errors import DatabaseAway, MigrationError
from campaign_worker.storage.faults import connecting, statement_errors
from campaign_worker.storage.migrate import known_migrations, schema_version
from campaign_worker.storage.statements import load_statements
from campaign_worker.storage.steadiness import Steadiness
from shutdown import Deadline

#: A claim, mark or settle that a crash of Postgres takes back is a mail that goes twice. Where a
#: database or role is set to more than this, that stays.
_DURABLE = (
    "SELECT set_config('synchronous_commit', 'on', {local})"
    " WHERE current_setting('synchronous_commit') = 'off'"
)


@dataclass(frozen=True, slots=True)
class DatabaseOptions:
    """How to reach Postgres. `transaction_pooler`: pgbouncer or the like in transaction mode.

    `idle_transaction_seconds`: a replica that froze or was cut off in the middle of a transaction
    holds its rows, and its campaign's counts, for no longer than this.
    """

    dsn: str
    schema: str = "campaign_worker"
    transaction_pooler: bool = False
    pool_size: int = 5
    connect_timeout_seconds: float = 5.0
    statement_timeout_seconds: float = 10.0
    idle_transaction_seconds: float = 5.0


Call = Callable[..., Awaitable[Any]]
"""Runs one named statement that is a transaction of its own; its first value."""


class Database:
    """A pool of connections and the named statements for one schema."""

    def __init__(self, options: DatabaseOptions) -> None:
        self.options = options
        self.sql = load_statements(options.schema)
        self._pool: asyncpg.Pool | None = None
        self._watchers: list[Steadiness] = []

    def watch(self, steadiness: Steadiness) -> None:
        """Let it hear of every failure and every answer from now on."""
        self._watchers.append(steadiness)

    async def open(self) -> None:
        """Open the pool. Raises DatabaseAway, CredentialsRefused, SettingsError."""
        idle_ms = round(self.options.idle_transaction_seconds * 1000)
        with connecting("DATABASE_URL"):
            self._pool = await asyncpg.create_pool(
                self.options.dsn,
                min_size=1,
                max_size=self.options.pool_size,
                timeout=self.options.connect_timeout_seconds,
                command_timeout=self.options.statement_timeout_seconds,
                statement_cache_size=0 if self.options.transaction_pooler else 100,
                # Ours hold no session state, and a pooler resets its own server connections.
                reset=_keep,
                init=None if self.options.transaction_pooler else _wait_for_the_disk,
                # A pooler refuses this at the start of a session: there each transaction says it.
                server_settings={}
                if self.options.transaction_pooler
                else {"idle_in_transaction_session_timeout": str(idle_ms)},
            )

    async def open_migrated(self) -> None:
        """Open the pool unless it is, and check the schema. Raises as both do; can be repeated."""
        if self._pool is None:
            # Behind a pooler this goes well while Postgres is away.
            await self.open()
        await self.check_schema()

    async def check_schema(self) -> None:
        """Raise MigrationError unless the schema has the version that this code expects."""
        expected = known_migrations()[-1].version
        async with self.transaction() as connection:
            version = await schema_version(connection, self.options.schema)
        if version < expected:
            raise MigrationError(
                f"schema {self.options.schema} is at version {version}, this program expects"
                f" {expected}; run `campaign-worker migrate`"
            )

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[PoolConnectionProxy]:
        """One READ COMMITTED transaction.

        Raises DatabaseAway, also for a statement that Postgres does not understand or may not take
        from us: that is no fault of a job. Lost races and values at fault pass unchanged.
        """
        if self._pool is None:
            raise DatabaseAway("Postgres: the pool is not open")
        try:
            async with self._begun(self._pool) as connection:
                for watcher in self._watchers:
                    watcher.answered(time.monotonic())
                yield connection
        except DatabaseAway:
            for watcher in self._watchers:
                watcher.failed(time.monotonic())
            raise

    @contextlib.asynccontextmanager
    async def _begun(self, pool: asyncpg.Pool) -> AsyncIterator[PoolConnectionProxy]:
        with statement_errors():
            async with (
                pool.acquire(timeout=self.options.connect_timeout_seconds) as connection,
                connection.transaction(),
            ):
                if self.options.transaction_pooler:
                    idle_ms = round(self.options.idle_transaction_seconds * 1000)
                    await connection.execute(
                        f"SET LOCAL idle_in_transaction_session_timeout = {idle_ms};"
                        + _DURABLE.format(local="true")
                    )
                yield connection

    async def fetch(self, statement: str, *arguments: object) -> Sequence[Any]:
        """Run one named statement in a transaction of its own and return its rows."""
        async with self.transaction() as connection:
            return await connection.fetch(self.sql[statement], *arguments)

    async def call(self, statement: str, *arguments: object) -> Any:
        """Run one named statement that is a transaction of its own; its first value.

        A round trip where `fetch` takes three. Errors as those of `transaction`.
        """
        async with self._connected() as connection:
            return await connection.fetchval(self.sql[statement], *arguments)

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[PoolConnectionProxy]:
        if self._pool is None or self.options.transaction_pooler:
            async with self.transaction() as connection:
                yield connection
            return
        with statement_errors():
            timeout = self.options.connect_timeout_seconds
            async with self._pool.acquire(timeout=timeout) as connection:
                yield connection

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator[Call]:
        """Give a `call` for statements that follow each other, on one connection.

        It is taken at the first of them, and given back at the end and after one that failed: a
        pool hands over in several turns of the loop, in which Postgres would have nothing to do.
        """
        async with contextlib.AsyncExitStack() as held:
            connection: PoolConnectionProxy | None = None

            async def call(statement: str, *arguments: object) -> Any:
                nonlocal connection
                try:
                    if connection is None:
                        connection = await held.enter_async_context(self._connected())
                    with statement_errors():
                        return await connection.fetchval(self.sql[statement], *arguments)
                except BaseException:
                    connection = None
                    await held.aclose()
                    raise

            yield self.call if self.options.transaction_pooler else call

    async def ping(self) -> None:
        """Raise DatabaseAway unless Postgres answers and takes writes."""
        async with self.transaction() as connection:
            if await connection.fetchval("SELECT pg_is_in_recovery()"):
                raise DatabaseAway("Postgres: in recovery, takes no writes")

    async def close(self, deadline: Deadline) -> None:
        """Close the pool; what is still out when the deadline comes is dropped. Idempotent."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            await deadline.wait_for(pool.close())
        except TimeoutError:
            pool.terminate()


async def _keep(_connection: object) -> None:
    return None


async def _wait_for_the_disk(connection: asyncpg.Connection) -> None:
    await connection.execute(_DURABLE.format(local="false"))
