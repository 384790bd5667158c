"""What a check says: one finding for one thing that was looked at."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Level(enum.StrEnum):
    """WARNING works but will hurt, ERROR keeps the worker from working, REFUSED is a login."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Finding:
    """`item` is what was looked at, `text` what was found, `mend` what to do about it."""

    item: str
    level: Level
    text: str
    mend: str = ""


def fine(item: str, text: str) -> Finding:
    """Return a finding that asks for nothing."""
    return Finding(item, Level.OK, text)


def doubtful(item: str, text: str, mend: str) -> Finding:
    """Return a warning."""
    return Finding(item, Level.WARNING, text, mend)


def broken(item: str, text: str, mend: str) -> Finding:
    """Return an error."""
    return Finding(item, Level.ERROR, text, mend)


def refused(item: str, text: str, mend: str) -> Finding:
    """Return a refused login."""
    return Finding(item, Level.REFUSED, text, mend)
