"""One worker or tracker as a process of its own: environment, port, health, last words.

It runs `campaign-worker run` or `track` in an empty folder with nothing of the caller's settings.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp

from campaign_worker.demo.facts import Handover
from campaign_worker.embedded.process import ChildProcess
from campaign_worker.embedded.server import LOOPBACK, free_port
from campaign_worker.errors import DemoFailed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

HEALTH_SECONDS = 2.0
LAST_WORDS = "worker stopped"

_KEPT_VARIABLES = frozenset(
    {"PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV"}
)
_LOG_LINES = 15


@dataclass(frozen=True, slots=True)
class Health:
    """What /health says; `consuming` is its 200."""

    consuming: bool
    in_flight: int


class Worker:
    """A `campaign-worker run` with the given settings; `folder` is its working directory.

    `command` may be "track" instead, which sends nothing.
    """

    def __init__(
        self, name: str, settings: Mapping[str, str], folder: Path, command: str = "run"
    ) -> None:
        self.name = name
        self.command = command
        self._settings = settings
        self._folder = folder
        self._port = 0
        self._process: ChildProcess | None = None
        self._signalled_at: float | None = None

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.running

    @property
    def url(self) -> str:
        """Where it answers by HTTP once it has started, without a slash at its end."""
        return f"http://{LOOPBACK}:{self._port}"

    @property
    def stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._signalled_at is not None

    def start(self) -> None:
        """Start the process on a free port; it is not consuming yet."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._port = free_port()
        self._process = ChildProcess(
            self.name,
            [sys.executable, "-m", "campaign_worker", self.command],
            self._folder / "worker.log",
            env=_environment({**self._settings, "PORT": str(self._port), "INSTANCE_ID": self.name}),
            # A .env of the caller would speak to this worker too.
            cwd=self._folder,
        )
        self._process.start()

    async def health(self, session: aiohttp.ClientSession) -> Health | None:
        """Ask /health; None when nobody answers."""
        try:
            async with session.get(
                f"{self.url}/health",
                timeout=aiohttp.ClientTimeout(total=HEALTH_SECONDS),
            ) as answer:
                document = await answer.json()
                return Health(answer.ok, int(document["in_flight"]))
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None

    def terminate(self) -> None:
        """Send SIGTERM, as the platform does; returns at once."""
        self._signalled_at = time.monotonic()
        if self._process is not None:
            self._process.send(signal.SIGTERM)

    def check(self) -> None:
        """Raise DemoFailed when it ended without being told to, or other than with 0."""
        code = None if self._process is None else self._process.returncode
        if code is None or (code == 0 and self.stopping):
            return
        when = "after SIGTERM" if self.stopping else "by itself"
        raise DemoFailed(self.name, f"ended {when} with exit code {code}", self.log_tail())

    def handover(self) -> Handover:
        """Return what it said of its jobs when it stopped. Raises DemoFailed when it did not."""
        words = self._last_words()
        if words is None or self._signalled_at is None:
            raise DemoFailed(self.name, "did not say what became of its jobs", self.log_tail())
        return Handover(
            in_flight=int(words["in_flight_at_signal"]),
            finished=int(words["finished"]),
            handed_back=int(words["handed_back"]),
            abandoned=int(words["abandoned"]),
            seconds=time.monotonic() - self._signalled_at,
        )

    def log_tail(self) -> str:
        """Return the last lines of its log."""
        return "\n".join(self._log().splitlines()[-_LOG_LINES:])

    def kill(self) -> None:
        """Leave nothing of it, at once. Idempotent."""
        if self._process is not None:
            self._process.kill_now()

    def _log(self) -> str:
        if self._process is None:
            return ""
        return self._process.log_path.read_text(errors="replace")

    def _last_words(self) -> dict[str, Any] | None:
        for line in reversed(self._log().splitlines()):
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict) and record.get("message") == LAST_WORDS:
                return record
        return None


def _environment(settings: Mapping[str, str]) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT_VARIABLES or name.startswith("PYTHON")
    }
    return kept | dict(settings)
