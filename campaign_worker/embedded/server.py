"""What the three servers of the stack share: ports, start with retry, restart, life and death."""

from __future__ import annotations

import abc
import contextlib
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

from campaign_worker.errors import EmbeddedServerError

if TYPE_CHECKING:
    import psutil

    from campaign_worker.embedded.process import ChildProcess

LOOPBACK = "127.0.0.1"
START_SECONDS = 30.0
PORT_TRIES = 5


def free_port() -> int:
    """Return a TCP port of loopback that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


class EmbeddedServer(abc.ABC):
    """A server of ours in a child process, on loopback.

    `data_dir` None: a temporary folder, removed by close(). `port` 0: any free one, which then
    stays the same over restarts. stop() and kill() leave the data: start() goes on from it.
    """

    name: str

    def __init__(self, data_dir: Path | None = None, *, port: int = 0) -> None:
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        if data_dir is None:
            self._temporary = tempfile.TemporaryDirectory(prefix=f"campaign-worker-{self.name}-")
            data_dir = Path(self._temporary.name)
        self.data_dir = data_dir
        self.port = port
        self.process: ChildProcess | None = None

    @property
    @abc.abstractmethod
    def url(self) -> str:
        """How clients reach it."""

    @property
    def pid(self) -> int:
        """The process id of the server; EmbeddedServerError when it is not started."""
        return self._child().pid

    @property
    def family(self) -> list[psutil.Process]:
        """Its living processes, the server first."""
        return self.process.family() if self.process is not None else []

    @property
    def running(self) -> bool:
        """Whether its process lives (frozen counts as living)."""
        return self.process is not None and self.process.running

    async def start(self) -> None:
        """Start it and wait until it answers.

        Raises BinaryMissing when it is not installed, EmbeddedServerError when it does not come.
        """
        chosen = self.port
        await self._prepare()
        for attempt in range(PORT_TRIES):
            self.port = chosen or free_port()
            self.process = self._build()
            self.process.start()
            try:
                await self.process.wait_ready(self._answers, timeout_seconds=START_SECONDS)
            except BaseException as error:
                self.process.kill_now()
                # Between our look for a free port and the server's bind somebody else took it.
                taken = "already in use" in str(error).lower()
                if chosen or not taken or attempt == PORT_TRIES - 1:
                    raise
            else:
                return

    async def stop(self) -> None:
        """End it in its own orderly way; bounded, then SIGKILL. Idempotent."""
        if self.process is not None:
            await self.process.stop()

    async def close(self) -> None:
        """Stop it for good; a temporary folder is removed. Idempotent."""
        await self.stop()
        if self._temporary is not None:
            with contextlib.suppress(OSError):
                self._temporary.cleanup()

    async def kill(self) -> None:
        """SIGKILL: as a crash. The data stays; start() recovers from it."""
        await self._child().kill()

    async def restart(self) -> None:
        """Stop if it still runs, then start on the same port and data."""
        if self.process is not None:
            await self.process.stop()
        await self.start()

    def freeze(self) -> None:
        """SIGSTOP: connections stay open, nothing answers."""
        self._child().freeze()

    def thaw(self) -> None:
        """End a freeze."""
        self._child().thaw()

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    @abc.abstractmethod
    async def _prepare(self) -> None:
        """Make what must exist; runs before each start."""

    @abc.abstractmethod
    def _build(self) -> ChildProcess:
        """Make the process for `self.port`."""

    @abc.abstractmethod
    async def _answers(self) -> bool:
        """Whether our server takes work; another's on the same port does not count."""

    def _child(self) -> ChildProcess:
        if self.process is None:
            raise EmbeddedServerError(self.name, "is not started")
        return self.process
