"""Keeps labels few and printable: every new value of a label is a time series for ever."""

from __future__ import annotations

from typing import Final

MAX_VALUES: Final = 50
MAX_CHARACTERS: Final = 64
OTHER: Final = "other"


class BoundedLabel:
    """Lets the first `limit` different values of a label through; the rest are "other"."""

    def __init__(self, limit: int = MAX_VALUES) -> None:
        self._limit = limit
        self._values: dict[str, str] = {}

    def __call__(self, value: str) -> str:
        """Return the label for a value: printable, at most 64 characters, from a bounded set."""
        known = self._values.get(value)
        if known is not None:
            return known
        if len(self._values) >= self._limit:
            return OTHER
        # A foreign name may hold half a surrogate pair, which no exposition can encode.
        label = value[:MAX_CHARACTERS].encode("utf-8", "replace").decode()
        self._values[value] = label
        return label
