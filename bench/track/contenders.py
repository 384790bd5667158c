"""Who is measured: each one's process, its settings, and the paths that its mails would carry."""

from __future__ import annotations

import asyncio
import base64
import enum
import functools
import hashlib
import hmac
import json
import os
import random
import shutil
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final

import aiohttp

from bench.track.stand import Stand, cpu_seconds
from campaign_worker.embedded.process import ChildProcess
from campaign_worker.embedded.server import free_port
from campaign_worker.settings.kinds import SigningKey
from campaign_worker.tracking.tokens import Keyring, Token, TokenKind
from tests.fixtures import node_packages
from tests.fixtures.mailed import Mailed
from tests.support import clean_environment

START_SECONDS: Final = 30.0
NODE_FOLDER: Final = Path(__file__).with_name("node")
NODE_CONNECTIONS: Final = 10
"""What pg's Pool has when nobody says otherwise."""

SECRET: Final = "a-secret-of-the-benchmark-0123456789"  # noqa: S105 - signs what nobody else sees
CLICK_SHARE: Final = 0.25
_HTTP = aiohttp.ClientTimeout(total=2.0)


class Contender(enum.StrEnum):
    """A tracker under measurement; the value is its key in the result.

    NODE is written the usual way: a query with values, a table with foreign keys. NODE_LEAN has
    everything that can be left out left out: the statement is prepared, and no key is checked.
    """

    OURS = "ours"
    NODE = "node"
    NODE_LEAN = "node_lean"


class Tracker:
    """A running tracker."""

    def __init__(self, process: ChildProcess, port: int) -> None:
        self._process = process
        self.port = port

    def cpu_seconds(self) -> float:
        """CPU time of its process so far, all threads."""
        return cpu_seconds(self._process.family())

    def log_tail(self) -> str:
        """Return the end of what it wrote."""
        return self._process.log_tail()


@asynccontextmanager
async def started(
    paths: Paths, stand: Stand, database_url: str, folder: Path
) -> AsyncIterator[Tracker]:
    """Start a tracker and wait until it leads each link on; EmbeddedServerError when it does not.

    The click of each link is recorded: it counts as a request that was answered.
    """
    port = free_port()
    await asyncio.to_thread(folder.mkdir, parents=True)
    match paths.contender:
        case Contender.OURS:
            command = [sys.executable, "-m", "campaign_worker", "track"]
            environment = clean_environment(_settings(stand, database_url, port))
        case Contender.NODE | Contender.NODE_LEAN:
            command = [shutil.which("node") or "node", str(NODE_FOLDER / "tracker.cjs")]
            environment = _node_environment(paths.contender, database_url, port)
    log = folder / "tracker.log"
    process = ChildProcess(paths.contender.value, command, log, env=environment, cwd=folder)
    process.start()
    try:
        for click in paths.clicks:
            leads_on = functools.partial(_leads_on, port, click)
            await process.wait_ready(leads_on, timeout_seconds=START_SECONDS)
        yield Tracker(process, port)
    finally:
        await process.kill()


@dataclass(frozen=True, slots=True)
class Paths:
    """What one contender is asked for: a file with a path a line, and a click of each link."""

    contender: Contender
    file: Path
    clicks: Sequence[str]

    @classmethod
    def write(cls, contender: Contender, file: Path, mailed: Mailed, seed: int) -> Paths:
        """Write one path per message: three opens to a click, in a mess that the seed fixes."""
        dice = random.Random(seed)  # noqa: S311 - repeatable, not secret
        path = _our_path if contender is Contender.OURS else _node_path
        found = [
            path(message, dice.choice(mailed.links) if dice.random() < CLICK_SHARE else None)
            for message in mailed.messages
        ]
        dice.shuffle(found)
        file.write_text("\n".join(found))
        return cls(contender, file, [path(mailed.messages[0], link) for link in mailed.links])


_RING: Final = Keyring([SigningKey("bench", SECRET)])


def _our_path(message: int, link: int | None) -> str:
    if link is None:
        return f"/o/{_RING.sign(Token(TokenKind.OPEN, message))}.gif"
    return f"/c/{_RING.sign(Token(TokenKind.CLICK, message, link_id=link))}"


def _node_path(message: int, link: int | None) -> str:
    if link is None:
        return f"/o/{_node_token(str(message))}.gif"
    return f"/c/{_node_token(f'{message}.{link}')}"


def _node_token(text: str) -> str:
    mac = hmac.digest(SECRET.encode(), text.encode(), hashlib.sha256)[:12]
    return f"{text}.{base64.urlsafe_b64encode(mac).decode()}"


def _settings(stand: Stand, database_url: str, port: int) -> dict[str, str]:
    return {
        "REDIS_URL": stand.redis.url,
        "DATABASE_URL": database_url,
        "PORT": str(port),
        "INSTANCE_ID": "bench",
        "LOG_FORMAT": "json",
        "TRACKING_SIGNING_KEYS": f"bench:{SECRET}",
        "TRACKING_CLIENT_IP_HEADER": "X-Forwarded-For",
    }


def _node_environment(contender: Contender, database_url: str, port: int) -> dict[str, str]:
    spec = {
        "port": port,
        "url": database_url,
        "key": SECRET,
        "connections": NODE_CONNECTIONS,
        "lean": contender is Contender.NODE_LEAN,
    }
    return {
        **os.environ,
        "NODE_PATH": str(NODE_FOLDER / "node_modules"),
        "NODE_ENV": "production",
        "INPUT": json.dumps(spec),
    }


def install_node() -> str:
    """Install what Node's tracker needs; its versions in words. InstallFailed."""
    folder = node_packages.install_folder(str(NODE_FOLDER))
    modules = folder / "node_modules"
    versions = [
        f"{name} {json.loads((modules / name / 'package.json').read_text())['version']}"
        for name in ("fastify", "pg")
    ]
    return ", ".join(versions)


async def _leads_on(port: int, click: str) -> bool:
    try:
        async with (
            aiohttp.ClientSession(timeout=_HTTP) as session,
            session.get(f"http://127.0.0.1:{port}{click}", allow_redirects=False) as answer,
        ):
            return answer.status == HTTPStatus.FOUND
    except (aiohttp.ClientError, OSError, TimeoutError):
        return False
