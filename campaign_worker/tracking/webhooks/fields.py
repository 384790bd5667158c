"""Reads foreign JSON, in which every value may be of any type and any size."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from campaign_worker.errors import WebhookMalformed

MAX_ID: Final = 255
MAX_DETAIL: Final = 500
MAX_ADDRESSES: Final = 50
"""SES takes no mail to more; what a report lists beyond is left out."""

_MAX_ADDRESS: Final = 320
_MAX_MESSAGE_ID: Final = 1000
_YEARS: Final = range(2000, 2200)
_ID = re.compile(r"[!-~]{1,255}")
_MESSAGE_ID = re.compile(r"<[^<>\s]{1,990}>", re.ASCII)
_MESSAGE_ID_TEXT = re.compile(r"[!-;=?-~]{1,990}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")


def read_object(body: bytes | str) -> Mapping[str, Any]:
    """Parse a JSON object. Raises errors.WebhookMalformed."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise WebhookMalformed("the body is not JSON") from None
    if not isinstance(value, dict):
        raise WebhookMalformed("the body is not a JSON object")
    return value


def mapping(value: object) -> Mapping[str, Any]:
    """Return an object, or an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def listing(value: object) -> Sequence[Any]:
    """Return a list, or an empty one for anything else."""
    return value if isinstance(value, list) else []


def text(value: object, limit: int = MAX_DETAIL) -> str:
    """Return a text fit for Postgres, logs and labels, cut; "" for anything else."""
    if not isinstance(value, str):
        return ""
    # Cut first, so that no more than that is ever looked at.
    return _CONTROL.sub(" ", value[:limit]).strip()


def event_id(value: object) -> str:
    """Return an event's id. Raises errors.WebhookMalformed for what cannot tell events apart."""
    known = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(known, str) or not _ID.fullmatch(known):
        raise WebhookMalformed("it has no id, or none of at most 255 visible characters")
    return known


def optional_id(value: object) -> str | None:
    """Return an id, or None for anything else."""
    return value if isinstance(value, str) and _ID.fullmatch(value) else None


def message_id(value: object) -> str | None:
    """Return a Message-ID (RFC 5322, 3.6.4) with its brackets, or None for anything else."""
    if not isinstance(value, str):
        return None
    bare = value[:_MAX_MESSAGE_ID].strip()
    if _MESSAGE_ID.fullmatch(bare):
        return bare
    return f"<{bare}>" if _MESSAGE_ID_TEXT.fullmatch(bare) else None


def addresses(values: Sequence[Any]) -> tuple[str, ...]:
    """Return what may be addresses, each once; anything else is left out."""
    found = [
        value.strip()
        for value in values[:MAX_ADDRESSES]
        if isinstance(value, str)
        and len(value) <= _MAX_ADDRESS
        and "@" in value
        and not _CONTROL.search(value)
    ]
    return tuple(dict.fromkeys(found))


def moment(value: object) -> datetime | None:
    """Return a time of ISO 8601, UTC where it names no zone; None for anything else."""
    if not isinstance(value, str) or len(value) > MAX_ID:
        return None
    try:
        said = datetime.fromisoformat(value)
        zoned = said if said.tzinfo is not None else said.replace(tzinfo=UTC)
        return zoned.astimezone(UTC) if zoned.year in _YEARS else None
    except (ValueError, OverflowError):
        return None
