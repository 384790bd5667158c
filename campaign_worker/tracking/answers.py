"""Answers whose bytes are made once: status line, headers and body; only the date is new.

They go through aiohttp's server as its own responses do, or past it (quick.py), without building
headers for each request. One whose event is in no store yet says so.
"""

from __future__ import annotations

import functools
import time
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from aiohttp import HttpVersion11, web

from campaign_worker.tracking.events import Secured

if TYPE_CHECKING:
    from collections.abc import Mapping

# Every request has to reach us, and no other site may learn what was in somebody's mail.
_COMMON: Final = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Robots-Tag": "noindex",
    "X-Content-Type-Options": "nosniff",
}
_UNSECURED: Final = b"Tracking: unsecured\r\n"
"""For whoever counts requests against events; readers' browsers do not look at it."""


class Answer:
    """One answer, to be sent any number of times."""

    __slots__ = ("_body", "_head")

    def __init__(
        self, status: HTTPStatus, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> None:
        lines = {**_COMMON, **(headers or {}), "Content-Length": str(len(body))}
        text = f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        text += "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self._head = text.encode("ascii")
        self._body = body

    def to(self, request: web.BaseRequest, outcome: Secured | None = None) -> web.StreamResponse:
        """Give the response to one request, whose event is at `outcome`; HEAD gets no body."""
        keeps = request.keep_alive
        if not keeps:
            connection = b"Connection: close\r\n"
        elif request.version == HttpVersion11:
            connection = b""
        else:
            connection = b"Connection: keep-alive\r\n"
        body = b"" if request.method == "HEAD" else self._body
        head = (self._head, _date(), _mark(outcome), connection, b"\r\n")
        return _Sent(b"".join((*head, body)), keeps=keeps)

    def data(self, *, keeps: bool, outcome: Secured | None = None) -> bytes:
        """Give the whole answer to a GET of HTTP/1.1, whose event is at `outcome`."""
        connection = b"" if keeps else b"Connection: close\r\n"
        head = (self._head, _date(), _mark(outcome), connection, b"\r\n")
        return b"".join((*head, self._body))


class _Sent(web.StreamResponse):
    """Bytes that are written as they are."""

    def __init__(self, data: bytes, *, keeps: bool) -> None:
        super().__init__()
        self._data = data
        self._keep_alive = keeps
        self._to: web.BaseRequest | None = None

    async def prepare(self, request: web.BaseRequest) -> None:
        """Take note of the request; nothing is written before the end."""
        self._to = request

    async def write_eof(self, data: bytes = b"") -> None:  # noqa: ARG002 - aiohttp's signature
        """Write it all."""
        transport = None if self._to is None else self._to.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client has gone")
        transport.write(self._data)


def _mark(outcome: Secured | None) -> bytes:
    return _UNSECURED if outcome is Secured.UNSECURED else b""


def _date() -> bytes:
    return _date_of(int(time.time()))


@functools.lru_cache(maxsize=1)
def _date_of(second: int) -> bytes:
    """Give the Date header of a second (RFC 9110, 6.6.1)."""
    return f"Date: {formatdate(second, usegmt=True)}\r\n".encode("ascii")
