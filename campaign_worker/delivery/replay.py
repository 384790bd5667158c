"""Requests that a provider takes twice: what is kept of them, and whether one may be repeated.

Pure. The bytes of a request are the transport's own matter.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

LONGEST_PAUSE_SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class Replayable:
    """A request that `transport` may be given again, byte for byte, for `seconds`."""

    transport: str
    request: bytes
    seconds: float


@dataclass(frozen=True, slots=True)
class Replay:
    """A request of this row that may have been executed, by a claim before this one.

    `age_seconds` since its first mark, `open` while its provider still knows its key; both by
    Postgres' clock.
    """

    transport: str
    request: bytes
    message_id: str
    age_seconds: float
    open: bool


def request_key(row_id: int, created_at_epoch: float, message_key: str) -> str:
    """Derive the idempotency key of a row: the same for every attempt, 80 characters of ASCII.

    The time is in it because a database that was set up anew counts its rows from 1 again.
    """
    identity = f"{row_id} {created_at_epoch:.6f} {message_key}"
    return f"campaign-worker-{hashlib.sha256(identity.encode('utf-8', 'replace')).hexdigest()}"


def obstacle(replay: Replay, transport: str, *, replays: bool) -> str | None:
    """Say why a request must not be repeated by this transport; None if it may."""
    if replay.transport != transport or not replays:
        return f"it may have been sent by transport {replay.transport}, now it is {transport}"
    if not replay.open:
        return "no answer came while the provider remembered the request"
    return None


def pause_seconds(floor_seconds: float, age_seconds: float, hint_seconds: float | None) -> float:
    """Return how long to wait before the next repetition.

    As long as the doubt is old, so that the pauses double; at least the floor or the server's
    hint, and 15 minutes where neither is longer.
    """
    growing = min(age_seconds, LONGEST_PAUSE_SECONDS)
    return max(floor_seconds, growing, hint_seconds or 0.0)
