"""Return values, progress and data as the JSON text that JSON.stringify would write, and back.

What JSON has no form for becomes what Node makes of its kin (NaN is null, a time is ISO 8601 in
UTC), so that a finished job never fails because of its value.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import re
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from datetime import UTC, date, datetime
from typing import Any


def to_json(value: Any) -> str:
    """Write `value` as compact JSON.

    Raises ValueError only for a value that contains itself or is nested too deeply.
    """
    if value is None:
        return "null"
    try:
        try:
            text = _encode(value)
            text.encode()
        except (ValueError, TypeError):
            # A surrogate in a Python string is always a lone one.
            return _SURROGATES.sub(_escaped, _encode(_cleaned(value, ())))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return text


def from_json(text: str) -> Any:
    """Read a JSON text. Raises ValueError, also for one that is nested too deeply to be read."""
    try:
        try:
            value, end = _scan(text, 0)
        except StopIteration:
            end = -1
        # White space around it, or no JSON: json.loads tells.
        return value if end == len(text) else json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def clean_text(text: str) -> str:
    """Replace what UTF-8 cannot carry (lone surrogates), as Node's Redis client does."""
    return text.encode("utf-8", "replace").decode()


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        moment = value.astimezone(UTC)
        return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bytes | bytearray | memoryview):
        return {"type": "Buffer", "data": list(bytes(value))}
    if isinstance(value, enum.Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, AbstractSet):
        return list(value)
    return str(value)


def _cleaned(value: Any, above: tuple[int, ...]) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if id(value) in above:
        raise ValueError("the value contains itself")
    inside = (*above, id(value))
    if isinstance(value, Mapping):
        return {_key(key): _cleaned(item, inside) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_cleaned(item, inside) for item in value]
    return _cleaned(_plain(value), inside)


def _escaped(surrogate: re.Match[str]) -> str:
    return f"\\u{ord(surrogate[0]):04x}"


def _key(key: Any) -> str:
    if isinstance(key, str):
        return key
    return json.dumps(key) if key is None or isinstance(key, bool) else str(key)


_SURROGATES = re.compile("[\ud800-\udfff]")
# json.dumps with arguments builds an encoder per call, and json.loads looks for white space with a
# regular expression on both sides: together half of what an empty job's JSON costs.
_encode = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain
).encode
# Its stub lacks it.
_scan: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder().scan_once  # type: ignore[attr-defined]
