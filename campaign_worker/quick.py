"""A shorter way for plain GET requests through aiohttp's server: no task, no request, no response.

A request that comes whole, alone and in the usual form is read here and shown to `quick`; whatever
is unusual about it, and whatever `quick` does not take, goes aiohttp's way, as does all that comes
after it on that connection. Knows nothing of what is asked for.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, Protocol

from aiohttp import web

MAX_REQUEST: Final = 8190
MAX_HELD: Final = 64 * 1024

# The token characters of RFC 9110, 5.6.2, and values without control characters. One pass, no
# nested repetition: linear in what comes, which is bounded.
_REQUEST: Final = re.compile(
    rb"GET (/[!-~]*) HTTP/1\.1\r\n((?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*\r\n)+)\r\n"
)
# What changes where a request ends, or what its connection becomes, is not for here.
_UNUSUAL: Final = frozenset({"content-length", "transfer-encoding", "upgrade", "expect"})


class Asked(NamedTuple):
    """One request: headers by lower-case name (or any mapping that ignores case)."""

    method: str
    headers: Mapping[str, str]
    peer: str | None


class Bytes(Protocol):
    """An answer that can be sent as it is."""

    def data(self, *, keeps: bool, outcome: Any = None) -> bytes:
        """Give the whole answer to a GET of HTTP/1.1; `outcome` of what it has waited for."""
        ...


Answered = tuple[Bytes, "asyncio.Future[Any] | None"]
"""An answer, and what has to be over before it may be sent."""

Quick = Callable[[Asked, str], Answered | None]
"""Answers a path with its query, or leaves it to aiohttp."""


class QuickServer(web.Server):
    """aiohttp's low-level server, with the shorter way in front."""

    def __init__(self, handler: Any, quick: Quick, **options: Any) -> None:
        super().__init__(handler, **options)
        self._quick = quick

    def __call__(self) -> web.RequestHandler:
        """Make the protocol of one connection."""
        return _QuickHandler(self, self._quick, loop=self._loop, **self._kwargs)


class _QuickHandler(web.RequestHandler):
    """One connection. `_usual` until the first request that is not for here."""

    __slots__ = ("_held", "_peer", "_quick", "_usual", "_waits_for")

    def __init__(self, server: web.Server, quick: Quick, **options: Any) -> None:
        super().__init__(server, **options)
        self._quick = quick
        self._usual = True
        self._held = b""
        self._peer: str | None = None
        self._waits_for: asyncio.Future[Any] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        name = transport.get_extra_info("peername")
        self._peer = str(name[0]) if isinstance(name, tuple) else None

    def data_received(self, data: bytes) -> None:
        if self._waits_for is not None:
            self._hold(data)
            return
        if self._usual:
            answered = self._read(data)
            if answered is not None:
                self._next_keepalive_close_time = self._loop.time() + self.keepalive_timeout
                self._answer(*answered)
                return
            self._usual = False
        super().data_received(data)

    async def shutdown(self, timeout: float | None = 15.0) -> None:  # noqa: ASYNC109 - aiohttp's signature
        """Close the connection, after the answer that is under way."""
        if self._waits_for is not None:
            await asyncio.wait({self._waits_for}, timeout=timeout)
            # Its callback writes the answer, in the next turn of the loop.
            await asyncio.sleep(0)
        await super().shutdown(timeout)

    def _read(self, data: bytes) -> tuple[Bytes, asyncio.Future[Any] | None, bool] | None:
        if len(data) > MAX_REQUEST or self._force_close or self._close:
            return None
        found = _REQUEST.fullmatch(data)
        if found is None:
            return None
        headers: dict[str, str] = {}
        lines = found[2].decode("utf-8", "surrogateescape").split("\r\n")
        lines.pop()
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip(" \t")
        # A header that comes twice is no usual request.
        if len(headers) != len(lines) or "host" not in headers or not _UNUSUAL.isdisjoint(headers):
            return None
        wish = headers.get("connection", "keep-alive").lower()
        if wish not in ("keep-alive", "close"):
            return None
        answered = self._quick(Asked("GET", headers, self._peer), found[1].decode("ascii"))
        return None if answered is None else (*answered, wish == "keep-alive")

    def _answer(self, answer: Bytes, waiting: asyncio.Future[Any] | None, keeps: bool) -> None:
        if waiting is None:
            self._send(answer, keeps=keeps)
            return
        self._waits_for = waiting
        waiting.add_done_callback(lambda done: self._sent_after(done, answer, keeps=keeps))

    def _sent_after(self, done: asyncio.Future[Any], answer: Bytes, *, keeps: bool) -> None:
        self._waits_for = None
        self._send(answer, keeps=keeps, outcome=done.result())
        held, self._held = self._held, b""
        if held and self.transport is not None:
            self.transport.resume_reading()
            self.data_received(held)

    def _send(self, answer: Bytes, *, keeps: bool, outcome: Any = None) -> None:
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        transport.write(answer.data(keeps=keeps, outcome=outcome))
        if not keeps:
            transport.close()

    def _hold(self, data: bytes) -> None:
        """Keep what comes before the answer: answers go out in the order of their requests."""
        self._held += data
        if len(self._held) > MAX_HELD and self.transport is not None:
            self.transport.pause_reading()
