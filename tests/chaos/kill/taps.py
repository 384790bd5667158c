"""Proxies that understand enough of Postgres' and Redis' protocols to act at a named statement.

A tap belongs to one worker. Its hook hears of a statement right before it is passed on, and right
before its answer is; whatever the hook answers True to is not passed on, and the connection cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable
from typing import Protocol, Self
from urllib.parse import urlsplit, urlunsplit

from campaign_worker.queue.scripts import load_scripts
from campaign_worker.storage.statements import load_statements

CHUNK = 1 << 16

Hook = Callable[[str], bool]
"""Hears "before settle", "after settle" and the like; True: cut here."""

_WATCHED = {"write_claims": "claim", "mark_messages": "mark", "settle_messages": "settle"}


class Reader(Protocol):
    """What a tap knows of one connection."""

    def asked(self, data: bytes) -> set[str]:
        """Return the watched statements that this request lets happen."""

    def answered(self, data: bytes) -> set[str]:
        """Return the watched statements that this answer is about."""


class PostgresReader:
    """Statements count when their transaction commits. Without TLS (sslmode=disable)."""

    def __init__(self) -> None:
        texts = load_statements("campaign_worker")
        self._known = {texts[name].encode(): word for name, word in _WATCHED.items()}
        self._names: dict[bytes, str] = {}
        self._begun: set[str] = set()
        self._committing: set[str] = set()
        self._started = False
        self._request = self._answer = b""

    def asked(self, data: bytes) -> set[str]:
        self._request += data
        if not self._started:
            size = int.from_bytes(self._request[:4], "big")
            if len(self._request) < max(size, 4):
                return set()
            self._started, self._request = True, self._request[size:]
        messages, self._request = _messages(self._request)
        for kind, body in messages:
            match kind:
                case b"P":
                    name, text = body.split(b"\0")[:2]
                    self._names[name] = self._known.get(text, "")
                case b"B":
                    self._begun.add(self._names.get(body.split(b"\0")[1], ""))
                case b"Q" if body.startswith(b"COMMIT"):
                    self._committing, self._begun = self._begun - {""}, set()
                    return self._committing
                case b"Q":
                    self._begun = set()
                case _:
                    pass
        return set()

    def answered(self, data: bytes) -> set[str]:
        messages, self._answer = _messages(self._answer + data)
        if any(kind == b"C" and body.startswith(b"COMMIT") for kind, body in messages):
            about, self._committing = self._committing, set()
            return about
        return set()


class RedisReader:
    """The script that finishes a job; an answer is whatever comes next."""

    def __init__(self) -> None:
        self._sha = load_scripts()["moveToFinished"].sha.encode()
        self._waiting = False

    def asked(self, data: bytes) -> set[str]:
        if self._sha not in data:
            return set()
        self._waiting = True
        return {"finish"}

    def answered(self, _data: bytes) -> set[str]:
        waiting, self._waiting = self._waiting, False
        return {"finish"} if waiting else set()


@dataclasses.dataclass(eq=False, slots=True)
class _Link:
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter

    def cut(self) -> None:
        self.client.transport.abort()
        self.server.transport.abort()


class Tap:
    """Forwards to the server of `target`; clients use `url`."""

    def __init__(self, target: str, reader: Callable[[], Reader], hook: Hook) -> None:
        self._target = urlsplit(target)
        self._reader = reader
        self._hook = hook
        self._listener: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The target's URL with our port."""
        assert self._listener is not None
        port = self._listener.sockets[0].getsockname()[1]
        user, at, _ = self._target.netloc.rpartition("@")
        return urlunsplit(self._target._replace(netloc=f"{user}{at}127.0.0.1:{port}"))

    async def start(self) -> Self:
        """Listen on a port of its own."""
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def close(self) -> None:
        """Cut everything and listen no more."""
        if self._listener is not None:
            self._listener.close()
        for link in tuple(self._links):
            link.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            back, server = await asyncio.open_connection(self._target.hostname, self._target.port)
        except OSError:
            writer.transport.abort()
            return
        except asyncio.CancelledError:
            # Called in the very moment in which everything ends: nobody else knows of it yet.
            writer.transport.abort()
            raise
        link, knows = _Link(writer, server), self._reader()
        self._links.add(link)
        try:
            await asyncio.gather(
                self._pass(reader, server, knows.asked, "before", link),
                self._pass(back, writer, knows.answered, "after", link),
            )
        finally:
            self._links.discard(link)
            link.cut()

    async def _pass(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        look: Callable[[bytes], set[str]],
        when: str,
        link: _Link,
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(CHUNK):
                hits = [self._hook(f"{when} {word}") for word in sorted(look(data))]
                if any(hits):
                    break
                sink.write(data)
                await sink.drain()
        link.cut()


def _messages(data: bytes) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Split what has come in whole; what is left waits for more."""
    found, at = [], 0
    while len(data) - at >= 5:
        size = 1 + int.from_bytes(data[at + 1 : at + 5], "big")
        if len(data) - at < size:
            break
        found.append((data[at : at + 1], data[at + 5 : at + size]))
        at += size
    return found, data[at:]
