"""Kills frozen processes when we die: a stopped process cannot notice the death of its parent."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# Ends without a word when it reads a byte; end of file means that its parent is gone.
_SCRIPT = """
import contextlib, os, signal, sys
if not sys.stdin.buffer.read(1):
    for pid in sys.argv[1:]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
"""
RELEASE_SECONDS = 10.0


class FreezeGuard:
    """A process that waits for our end and then kills the given ones; release() before thawing."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._popen = subprocess.Popen(  # noqa: S603 - a script of ours, no shell
            [sys.executable, "-I", "-S", "-c", _SCRIPT, *map(str, pids)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def release(self) -> None:
        """End it; the frozen processes are left as they are."""
        self._popen.communicate(b".", timeout=RELEASE_SECONDS)
