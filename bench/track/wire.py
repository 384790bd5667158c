"""One kept HTTP/1.1 connection that asks one question at a time, as cheaply as Python can.

Understands answers with a Content-Length; anything else ends the connection.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import NamedTuple, cast

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_END = b"\r\n\r\n"


class Answer(NamedTuple):
    """A status and the bytes of the head."""

    status: int
    head: bytes

    def header(self, name: str) -> str | None:
        """Return a header's value, None when there is none."""
        found = re.search(
            rb"\r\n%s: *([^\r]*)" % re.escape(name.encode()), self.head, re.IGNORECASE
        )
        return None if found is None else found[1].decode("latin-1")


class Connection(asyncio.Protocol):
    """Calls `done(self, answer)` once per `ask`; None: the connection ended without an answer.

    `lost` is set when it has ended; who gave `done` may then open another.
    """

    def __init__(self, done: Callable[[Connection, Answer | None], None]) -> None:
        self.lost = False
        self._done = done
        self._transport: asyncio.WriteTransport | None = None
        self._asked = False
        self._bodiless = False
        self._data = b""

    def ask(self, request: bytes) -> None:
        """Send a whole request; the answer before must have come."""
        self._asked = True
        self._bodiless = request.startswith(b"HEAD ")
        if self._transport is None or self._transport.is_closing():
            asyncio.get_running_loop().call_soon(self._answer, None)
        else:
            self._transport.write(request)

    def close(self) -> None:
        """Drop the connection."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports are none of asyncio's classes.
        self._transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer when the whole of it is there."""
        self._data += data
        end = self._data.find(_END)
        if end < 0:
            return
        length = _LENGTH.search(self._data, 0, end)
        if length is None:
            self.close()
            return
        size = end + len(_END) + (0 if self._bodiless else int(length[1]))
        if len(self._data) < size:
            return
        head, self._data = self._data[:end], self._data[size:]
        self._answer(Answer(int(head[9:12]), head))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's call
        """Answer with None when a question is open."""
        self.lost = True
        self._data = b""
        self._answer(None)

    def _answer(self, answer: Answer | None) -> None:
        if self._asked:
            self._asked = False
            self._done(self, answer)


def request_bytes(
    method: str, path: str, headers: dict[str, str], *, body: bytes = b"", host: str = "t.example"
) -> bytes:
    """Write a request down."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
