"""What is kept of a request that reached us, how it was secured, and its form outside of Postgres.

An event is made once and never changes here; its class may still change where the rows are.
"""

from __future__ import annotations

import enum
import hashlib
import json
import os
import random
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple
from uuid import UUID

from campaign_worker.tracking.classify import EventKind, Visitor

STORE_SECONDS: Final = 0.04
ALL_SECONDS: Final = 0.09
"""How long an answer waits for Postgres, and for all stores: for where its link leads and for its
event together. Of the 100 ms that it may take, ten are for the turns of the loop and the way back.
"""

MAX_AGENT_KEPT: Final = 256
"""Characters of a user agent that are kept."""

VERSION: Final = "1"

# Ids have to be unlike each other, not secret: the kernel is asked once, not for each of them.
_RANDOM = random.Random(os.urandom(32))  # noqa: S311 - see above


class Secured(enum.Enum):
    """Where an event was when its request was answered; values are labels of the metric."""

    POSTGRES = "postgres"
    STREAM = "stream"
    UNSECURED = "unsecured"
    """In the memory of this process only."""


class TrackingEvent(NamedTuple):
    """One request. A tuple, so that a batch turns into columns in one step.

    `id` is a UUID in 32 hexadecimal digits. `target` is a negative hash of the destination that a
    token carried: with `link_id` it tells the links of one message apart. `occurred_at` has a time
    zone.
    """

    id: str
    message_id: int
    link_id: int | None
    target: int | None
    kind: EventKind
    head: bool
    visitor: Visitor
    machine: bool
    client_hash: bytes | None
    user_agent: str | None
    occurred_at: datetime


class StreamEntry(NamedTuple):
    """What one entry of a stream holds; `events` is None when it is none of this version's."""

    id: str
    events: tuple[TrackingEvent, ...] | None


def new_event_id() -> str:
    """Make a UUID of version 7 (RFC 9562, 5.7): by time, so that an index grows at its end."""
    random_bits = _RANDOM.getrandbits(74)
    milliseconds = time.time_ns() // 1_000_000
    high, low = random_bits >> 62, random_bits & ((1 << 62) - 1)
    return f"{milliseconds << 80 | 7 << 76 | high << 64 | 2 << 62 | low:032x}"


def target_of(destination: str | None) -> int | None:
    """Give what tells a destination from another, below all ids of links."""
    if destination is None:
        return None
    digest = hashlib.blake2b(destination.encode(), digest_size=7).digest()
    return -1 - int.from_bytes(digest)


def cleaned_agent(text: str | None) -> str | None:
    """Make a user agent fit for Postgres: no NUL, no lone surrogate, cut; None when it is empty."""
    if not text:
        return None
    cut = text[:MAX_AGENT_KEPT].replace("\x00", "")
    return cut if cut.isascii() else cut.encode("utf-8", "replace").decode("utf-8")


def to_fields(events: Sequence[TrackingEvent]) -> dict[str, str]:
    """Write events down for a stream."""
    return {"version": VERSION, "events": json.dumps([_words(event) for event in events])}


def from_fields(fields: Mapping[str, str]) -> tuple[TrackingEvent, ...] | None:
    """Read what to_fields wrote, by whatever replica; None when it is none of this version's."""
    if fields.get("version") != VERSION:
        return None
    try:
        return tuple(_event(words) for words in json.loads(fields["events"]))
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _words(event: TrackingEvent) -> list[object]:
    return [
        event.id,
        event.message_id,
        event.link_id,
        event.target,
        event.kind.value,
        event.head,
        event.visitor.value,
        event.machine,
        None if event.client_hash is None else event.client_hash.hex(),
        event.user_agent,
        event.occurred_at.timestamp(),
    ]


def _event(words: Sequence[object]) -> TrackingEvent:
    identity, message, link, target, kind, head, visitor, machine, client, agent, at = words
    return TrackingEvent(
        id=UUID(hex=str(identity)).hex,
        message_id=int(str(message)),
        link_id=None if link is None else int(str(link)),
        target=None if target is None else int(str(target)),
        kind=EventKind(str(kind)),
        head=head is True,
        visitor=Visitor(str(visitor)),
        machine=machine is True,
        client_hash=None if client is None else bytes.fromhex(str(client)),
        user_agent=None if agent is None else str(agent),
        occurred_at=datetime.fromtimestamp(float(str(at)), UTC),
    )
