"""A Redis of our own with an append-only file, on loopback; nothing in it is ever evicted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

import redis.asyncio
import redis.exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from campaign_worker.embedded.process import ChildProcess
from campaign_worker.embedded.redis_binary import find_redis
from campaign_worker.embedded.server import LOOPBACK, EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PROBE_SECONDS = 1.0


class RedisServer(EmbeddedServer):
    """Redis or Valkey as a child process.

    `settings` are further redis.conf directives ({"unixsocket": "/tmp/x.sock"}); `program` is the
    server to run instead of the one that find_redis() finds.
    """

    name = "redis"

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        port: int = 0,
        password: str | None = None,
        appendonly: bool = True,
        appendfsync: Literal["always", "everysec", "no"] = "everysec",
        settings: Mapping[str, str] | None = None,
        program: Path | None = None,
    ) -> None:
        super().__init__(data_dir, port=port)
        self._program = program
        self._password = password
        self._settings = {
            "bind": LOOPBACK,
            "save": "",
            "appendonly": "yes" if appendonly else "no",
            "appendfsync": appendfsync,
            "maxmemory-policy": "noeviction",  # BullMQ: an evicted key is a lost job
            "daemonize": "no",
        } | dict(settings or {})

    @property
    def url(self) -> str:
        """redis:// URL of database 0."""
        return self.database_url(0)

    def database_url(self, database: int) -> str:
        """redis:// URL of a logical database (0 to 15)."""
        secret = f":{quote(self._password, safe='')}@" if self._password else ""
        return f"redis://{secret}{LOOPBACK}:{self.port}/{database}"

    async def _prepare(self) -> None:
        self.data_dir.mkdir(parents=True, exist_ok=True)

    def _build(self) -> ChildProcess:
        # In a file, not in the arguments: every user of the machine can read those.
        config = self.data_dir / "redis.conf"
        lines = {"port": str(self.port), "dir": str(self.data_dir)} | self._settings
        if self._password:
            lines["requirepass"] = self._password
        config.touch(mode=0o600)
        config.write_text("".join(f"{key} {_quoted(value)}\n" for key, value in lines.items()))
        command = [str(self._program or find_redis()), str(config)]
        return ChildProcess(self.name, command, self.data_dir / "redis.log")

    async def _answers(self) -> bool:
        client = redis.asyncio.Redis(
            host=LOOPBACK,
            port=self.port,
            password=self._password,
            socket_timeout=PROBE_SECONDS,
            socket_connect_timeout=PROBE_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        try:
            # BusyLoading while the append-only file is read is an answer too, but not yet "yes".
            server = await client.info("server")
        except (redis.exceptions.RedisError, OSError):
            return False
        finally:
            await client.aclose()
        return bool(server["process_id"] == self.pid)


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
