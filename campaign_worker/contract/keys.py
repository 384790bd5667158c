"""The app's ids as text: one spelling for each, so that the same id is the same text everywhere."""

from __future__ import annotations

import uuid
from typing import Any

from campaign_worker.contract.model import IdKind
from campaign_worker.errors import PayloadError

_TEXT_MAX = 200
_SAFE_INTEGER = 2**53
_BITS = {IdKind.BIGINT: 63, IdKind.INTEGER: 31}


def key_of(value: Any, kind: IdKind, field: str) -> str:
    """Read an id of a job's data. Raises PayloadError naming `field`."""
    match kind:
        case IdKind.BIGINT | IdKind.INTEGER:
            return _integer(value, _BITS[kind], field)
        case IdKind.UUID:
            return _uuid(value, field)
        case IdKind.TEXT:
            return _text(value, field)


def value_of(key: str, kind: IdKind) -> Any:
    """Give the driver's value for a parameter of this kind."""
    match kind:
        case IdKind.BIGINT | IdKind.INTEGER:
            return int(key)
        case IdKind.UUID:
            return uuid.UUID(key)
        case IdKind.TEXT:
            return key


def json_of(key: str, kind: IdKind) -> str | int:
    """Give what stands in a job's data: numbers where JavaScript can hold them."""
    if kind in _BITS and abs(int(key)) < _SAFE_INTEGER:
        return int(key)
    return key


def _integer(value: Any, bits: int, field: str) -> str:
    # Node apps carry bigints as texts; true is an int in Python and no id anywhere.
    if isinstance(value, str) and value.removeprefix("-").isdigit() and value.isascii():
        value = int(value) if len(value) <= _TEXT_MAX else None
    if isinstance(value, bool) or not isinstance(value, int):
        raise PayloadError(field, f"must be a number, not {_kind(value)}")
    if not -(2**bits) <= value < 2**bits:
        raise PayloadError(field, "is no number that its column could hold")
    return str(value)


def _uuid(value: Any, field: str) -> str:
    if not isinstance(value, str):
        raise PayloadError(field, f"must be a UUID, not {_kind(value)}")
    try:
        return str(uuid.UUID(value[:_TEXT_MAX]))
    except ValueError:
        raise PayloadError(field, "is no UUID") from None


def _text(value: Any, field: str) -> str:
    if not isinstance(value, str):
        raise PayloadError(field, f"must be a text, not {_kind(value)}")
    if not value or len(value) > _TEXT_MAX:
        raise PayloadError(field, f"must have 1 to {_TEXT_MAX} characters")
    if "\x00" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise PayloadError(field, "holds a NUL or a broken character")
    return value


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case list():
            return "a list"
        case _:
            return "an object"
