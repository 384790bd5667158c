"""Redis, Postgres and the SMTP sink together: up at once, down in reverse, nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

from campaign_worker.embedded.postgres import PostgresServer
from campaign_worker.embedded.redis import RedisServer
from campaign_worker.embedded.smtp_sink import SmtpSinkProcess

if TYPE_CHECKING:
    from campaign_worker.embedded.server import EmbeddedServer

DATABASE = "campaign"


class EmbeddedStack:
    """The default stack of a laptop; `async with EmbeddedStack() as stack`.

    `data_dir` None: a temporary folder, removed at the end. All files and processes are below it.
    `latency_ms`: what the SMTP sink takes for each mail; `keep_contents`: it keeps whole mails.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        latency_ms: float = 0,
        keep_contents: bool = False,
    ) -> None:
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        if data_dir is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="campaign-worker-stack-")
            data_dir = Path(self._temporary.name)
            # Postgres may run as another user, who has to pass.
            data_dir.chmod(0o711)
        self.data_dir = data_dir
        self.redis = RedisServer(data_dir / "redis")
        self.postgres = PostgresServer(data_dir / "postgres")
        self.sink = SmtpSinkProcess(
            data_dir / "smtp", latency_ms=latency_ms, keep_contents=keep_contents
        )

    @property
    def redis_url(self) -> str:
        """redis:// URL."""
        return self.redis.url

    @property
    def database_url(self) -> str:
        """postgresql:// URL of the database made for the worker."""
        return self.postgres.database_url(DATABASE)

    @property
    def smtp_url(self) -> str:
        """smtp:// URL."""
        return self.sink.url

    async def start(self) -> None:
        """Start all three at once; when one does not come, none is left.

        Raises BinaryMissing or EmbeddedServerError of the first that fails.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for server in self._servers():
                    group.create_task(server.start())
            if not await self._has_database():
                await self.postgres.create_database(DATABASE)
        except BaseException as error:
            await self.stop()
            if isinstance(error, BaseExceptionGroup):
                raise _first(error) from None
            raise

    async def stop(self) -> None:
        """Stop in reverse order, each bounded. Idempotent."""
        try:
            for server in reversed(self._servers()):
                await server.stop()
        finally:
            # Cancelled half-way: what still runs is not asked any more.
            for server in self._servers():
                if server.process is not None:
                    server.process.kill_now()
            if self._temporary is not None:
                with contextlib.suppress(OSError):
                    self._temporary.cleanup()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.stop()

    async def _has_database(self) -> bool:
        found = await self.postgres.fetch_value(
            "SELECT count(*) FROM pg_database WHERE datname = $1", DATABASE
        )
        return bool(found)

    def _servers(self) -> tuple[EmbeddedServer, ...]:
        return (self.redis, self.postgres, self.sink)


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    first = failures.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
