"""A Postgres of our own on loopback: initdb, start, stop. Knows nothing of our schema."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import signal
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

import asyncpg

from campaign_worker.embedded.account import unprivileged
from campaign_worker.embedded.postgres_binary import find_postgres, reachable
from campaign_worker.embedded.process import ChildProcess
from campaign_worker.embedded.server import LOOPBACK, EmbeddedServer
from campaign_worker.errors import EmbeddedServerError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

INITDB_SECONDS = 60.0
PROBE_SECONDS = 2.0
SUPERUSER = "campaign"

# https://www.postgresql.org/docs/current/server-shutdown.html
_STOP_SIGNALS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}


class PostgresServer(EmbeddedServer):
    """Postgres as a child process, on TCP only.

    `password` None: everybody of this machine is let in (trust); given: scram-sha-256. `settings`
    go into postgresql.conf ({"fsync": "off"} for tests). `template`: a data folder of a stopped
    server with the same password setting to copy instead of running initdb. `bin_dir`: the folder
    of the programs, found when None. Root runs it as another user, who then owns `data_dir`.
    """

    name = "postgres"

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        port: int = 0,
        password: str | None = None,
        settings: Mapping[str, str] | None = None,
        template: Path | None = None,
        bin_dir: Path | None = None,
    ) -> None:
        super().__init__(data_dir, port=port)
        self._password = password
        self._settings = dict(settings or {})
        self._template = template
        self._bin_dir = bin_dir
        self._account = unprivileged()
        self.cluster = self.data_dir / "cluster"

    @property
    def url(self) -> str:
        """postgresql:// URL of the database `postgres`."""
        return self.database_url("postgres")

    def database_url(self, name: str) -> str:
        """postgresql:// URL of a database, whether it exists or not."""
        secret = f":{quote(self._password, safe='')}" if self._password else ""
        return f"postgresql://{SUPERUSER}{secret}@{LOOPBACK}:{self.port}/{quote(name, safe='')}"

    async def create_database(self, name: str, *, template: str | None = None) -> str:
        """Create a database, as a copy of `template` if given; returns its URL."""
        clause = "" if template is None else f' TEMPLATE "{template}"'
        await self.execute(f'CREATE DATABASE "{name}"{clause}')
        return self.database_url(name)

    async def drop_database(self, name: str) -> None:
        """Drop a database and whoever is connected to it."""
        await self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    async def execute(self, statement: str) -> None:
        """Run one statement in the database `postgres`."""
        async with self._connected() as connection:
            await connection.execute(statement)

    async def fetch_value(self, query: str, *arguments: object) -> Any:
        """Return the first value of a query in the database `postgres`."""
        async with self._connected() as connection:
            return await connection.fetchval(query, *arguments)

    async def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """End it: fast rolls back and checkpoints, immediate leaves recovery to the next start."""
        if self.process is not None:
            await self.process.stop(with_signal=_STOP_SIGNALS[mode])

    async def _prepare(self) -> None:
        self.data_dir.mkdir(parents=True, exist_ok=True)
        if self._account is not None:
            # A parent needs to be passable only; what is below belongs to the account.
            self.data_dir.chmod(0o711)
            if not self._account.can_reach(self.data_dir):
                raise EmbeddedServerError(
                    self.name,
                    f"root cannot run Postgres, and the user {self._account.name} cannot reach "
                    f"{self.data_dir}: choose a folder below /tmp",
                )
        self._bin_dir = reachable(self._bin_dir or find_postgres(), self._account)
        if not (self.cluster / "PG_VERSION").exists():
            await self._create_cluster()

    def _build(self) -> ChildProcess:
        settings = {
            # Paths of sockets are limited to 107 bytes, and nobody needs one.
            "unix_socket_directories": "",
            "logging_collector": "off",
            **self._settings,
            "port": str(self.port),
            "listen_addresses": LOOPBACK,
        }
        flags = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        return self._program("postgres", ["-D", str(self.cluster), *flags])

    async def _answers(self) -> bool:
        try:
            # First the pid, last the state; "ready" is said after the port was bound.
            status = (self.cluster / "postmaster.pid").read_text().split()
            if (status[:1], status[-1:]) != ([str(self.pid)], ["ready"]):
                return False
            async with self._connected():
                return True
        except (OSError, TimeoutError, asyncpg.PostgresError):
            return False

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
        connection = await asyncpg.connect(self.url, timeout=PROBE_SECONDS)
        try:
            yield connection
        finally:
            await connection.close(timeout=PROBE_SECONDS)

    def _program(self, program: str, arguments: list[str]) -> ChildProcess:
        path = str((self._bin_dir or find_postgres()) / program)
        return ChildProcess(
            self.name,
            [path, *arguments],
            self.data_dir / f"{program}.log",
            account=self._account,
            stop_signal=signal.SIGINT,
        )

    async def _create_cluster(self) -> None:
        """Copy the template or run initdb, in a folder beside, renamed when it is whole."""
        fresh = self.data_dir / f"cluster-{secrets.token_hex(4)}"
        if self._template is not None:
            shutil.copytree(self._template, fresh)
            fresh.chmod(0o700)
        else:
            fresh.mkdir(mode=0o700)
        if self._account is not None:
            self._account.own(fresh)
        if self._template is None:
            await self._initdb(fresh)
        fresh.rename(self.cluster)

    async def _initdb(self, folder: Path) -> None:
        arguments = ["--pgdata", str(folder), "--username", SUPERUSER, "--encoding", "UTF8"]
        arguments += ["--locale", "C", "--no-sync", "--no-instructions"]
        secret = self.data_dir / "password"
        if self._password:
            secret.touch(mode=0o600)
            secret.write_text(self._password)
            if self._account is not None:
                self._account.own(secret)
            arguments += ["--auth", "scram-sha-256", "--pwfile", str(secret)]
        else:
            arguments += ["--auth", "trust"]
        initdb = self._program("initdb", arguments)
        initdb.start()
        try:
            ended = await initdb.wait(timeout_seconds=INITDB_SECONDS)
        finally:
            await initdb.kill()
            secret.unlink(missing_ok=True)
        if not ended or initdb.returncode != 0:
            raise EmbeddedServerError(self.name, f"initdb failed: {initdb.log_tail()}")
