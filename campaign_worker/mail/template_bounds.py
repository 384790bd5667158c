"""What a template may cost: sizes, loops and work, paid from one budget per render.

Holds the filters that templates may use. Knows no environment; mail/sandbox.py does.
"""

from __future__ import annotations

import datetime as dt
import functools
import re
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from decimal import Decimal
from typing import Any, NoReturn

from jinja2 import StrictUndefined, Undefined
from jinja2.exceptions import SecurityError
from jinja2.filters import FILTERS

MAX_OUTPUT = 2_000_000
"""Characters that one render may print, loops and assignments included."""

WORK_PER_CHARACTER = 4
"""Characters that may be worked on for the price of one that is printed; items cost 1."""

MAX_RANGE = 10_000
MAX_ITEMS = 100_000
MAX_INTEGER_BITS = 256
MAX_FORMAT_DIGITS = 2

budget: ContextVar[list[int]] = ContextVar("budget")
"""What the render that runs may still print; one mutable cell, set by template.py."""

_FILTER_NAMES = frozenset({
    "abs", "capitalize", "count", "d", "default", "dictsort", "e", "escape", "first", "float",
    "forceescape", "groupby", "int", "items", "last", "length", "list", "lower", "map", "max",
    "min", "reject", "rejectattr", "reverse", "safe", "select", "selectattr", "sort", "string",
    "striptags", "sum", "title", "trim", "truncate", "unique", "upper", "urlencode", "wordcount",
})  # fmt: skip
_PRINTABLE = (str, int, float, Decimal, dt.date, dt.time, Undefined)
_WIDE_FORMAT = re.compile(rf"\*|\d{{{MAX_FORMAT_DIGITS + 1}}}")


class Null(StrictUndefined):
    """A value that is there and null: false, equal to none, taken by `default`, never printed."""

    __slots__ = ()

    def __bool__(self) -> bool:  # type: ignore[override] # its parent raises always
        return False

    def __eq__(self, other: object) -> bool:  # type: ignore[override] # as above
        return other is None or isinstance(other, Null)

    def __hash__(self) -> int:  # type: ignore[override] # as above
        return hash(None)


def spend(characters: int) -> None:
    """Take characters from the budget of the render that runs; outside one nothing is counted."""
    cell = budget.get(None)
    if cell is not None:
        cell[0] -= characters
        if cell[0] < 0:
            too_big()


def pay_for(value: Any) -> None:
    """Pay for work that is done on a value, so that loops cannot repeat big work for nothing."""
    if isinstance(value, str):
        spend(len(value) // WORK_PER_CHARACTER)
    elif isinstance(value, list | tuple | dict | range):
        spend(len(value))


def _paid(function: Callable[..., Any]) -> Callable[..., Any]:
    # functools.wraps keeps the attribute by which Jinja passes an environment or context.
    @functools.wraps(function)
    def paid(*arguments: Any, **named: Any) -> Any:
        for argument in arguments:
            pay_for(argument)
        return function(*arguments, **named)

    return paid


def too_big() -> NoReturn:
    """Raise the one error of all bounds."""
    raise SecurityError(f"beyond {MAX_OUTPUT} characters, {MAX_ITEMS} items or 77 digits")


def check_length(length: int) -> None:
    """Refuse a text longer than a whole mail may be."""
    if length > MAX_OUTPUT:
        too_big()


def finalize(value: Any) -> str:
    """Check and pay for each value that is printed: no lists, no null, nothing without an end."""
    if isinstance(value, Undefined):
        # Printing it raises its own error, which names the variable.
        str(value)
    if value is None:
        raise SecurityError("a value is null: give it a default")
    if not isinstance(value, _PRINTABLE):
        raise SecurityError(f"a {type(value).__name__} cannot be printed")
    text = value if isinstance(value, str) else str(value)
    spend(len(text))
    return text


def bounded_range(*bounds: int) -> range:
    """Give Python's range, of at most MAX_RANGE numbers."""
    numbers = range(*bounds)
    if len(numbers) > MAX_RANGE:
        raise SecurityError(f"range of more than {MAX_RANGE} numbers")
    return numbers


def _format(text: str, *values: Any, **named: Any) -> str:
    if _WIDE_FORMAT.search(text):
        raise SecurityError("format: a width of more than two digits")
    for value in (*values, *named.values()):
        finalize(value)
    return str(FILTERS["format"](text, *values, **named))


def _join(items: Iterable[Any], separator: str = "", attribute: str | None = None) -> str:
    if attribute is not None:
        raise SecurityError("join: use map(attribute=...) before it")
    texts = [str(finalize(item)) for item in items]
    check_length(sum(map(len, texts)) + len(separator) * len(texts))
    return separator.join(texts)


def _replace(text: str, old: str, new: str, count: int = -1) -> str:
    text, old, new = str(text), str(old), str(new)
    found = text.count(old)
    check_length(len(text) + (found if count < 0 else min(count, found)) * len(new))
    return text.replace(old, new, count)


def _round(value: float, precision: int = 0, method: str = "common") -> float:
    if not -20 <= precision <= 20:  # noqa: PLR2004 - beyond the digits of a float
        raise SecurityError("round: a precision of more than 20 digits")
    return float(FILTERS["round"](value, precision, method))


def allowed_filters() -> dict[str, Callable[..., Any]]:
    """Give the filters by name; the ones of Jinja2 that can build big things are bounded here."""
    kept = {name: _paid(FILTERS[name]) for name in _FILTER_NAMES}
    return {**kept, "format": _format, "join": _join, "replace": _replace, "round": _round}
