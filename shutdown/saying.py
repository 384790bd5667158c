"""Writes to a descriptor past Python's buffers, whose locks a blocked thread may hold.

For a process that is about to end: bounded, and silent about what cannot be written.
"""

from __future__ import annotations

import contextlib
import os
import select
from typing import Final

LINE_BYTES: Final = 4000
"""Below PIPE_BUF (4096 on Linux): what poll() calls writable takes that much without blocking."""

WRITE_SECONDS: Final = 0.2
"""How long one write may wait for a reader; a full pipe must not hold up the end."""


def say_line(descriptor: int, line: str) -> None:
    """Write one line, cut to what a pipe takes at once."""
    _write(descriptor, _encoded(" ".join(line.splitlines()))[:LINE_BYTES] + b"\n")


def say_text(descriptor: int, text: str) -> None:
    """Write as much of a text as its reader takes."""
    data = _encoded(text)
    for start in range(0, len(data), LINE_BYTES):
        if not _write(descriptor, data[start : start + LINE_BYTES]):
            return


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


def _write(descriptor: int, data: bytes) -> bool:
    with contextlib.suppress(OSError, ValueError):
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        if poll.poll(WRITE_SECONDS * 1000):
            os.write(descriptor, data)
            return True
    return False
