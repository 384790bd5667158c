"""What a template may cost: sizes, loops and work, paid from one budget per render.

Holds the filters that templates may use. Knows no environment; mail/sandbox.py does.
"""

from __future__ import annotations

import datetime as dt
import functools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from decimal import Decimal
from typing import Any, NoReturn, cast

from jinja2 import Environment, StrictUndefined, Undefined, pass_environment
from jinja2.exceptions import SecurityError
from jinja2.filters import FILTERS
from jinja2.tests import TESTS
from jinja2.utils import Namespace

MAX_OUTPUT = 2_000_000
"""Characters that one render may print, loops and assignments included."""

WORK_PER_CHARACTER = 4
"""Characters that may be worked on for the price of one that is printed; items cost 1."""

PAIRS_PER_CHARACTER = 256
"""Pairs of characters that may be compared for that price, where one text is sought in another."""

WORK_PER_LIST = 10
"""What it costs to look into a list or a dict, beside its items."""

MAX_RANGE = 10_000
MAX_ITEMS = 100_000
MAX_INTEGER_BITS = 256
MAX_FORMAT_DIGITS = 2
_LONGEST_NUMBER = 500
"""Characters that a number takes in a format of two digits: 1e308 with 99 decimals."""

_DICT: dict[Any, Any] = {}
_HOLDERS: tuple[type[Any], ...] = (
    *(list, tuple, dict),
    *(type(_DICT.keys()), type(_DICT.values()), type(_DICT.items())),
)
_SIZED: tuple[type[Any], ...] = (*_HOLDERS, range)

PAID = "paid"
"""The filter through which the sandbox sends what a template compares; it changes nothing."""

budget: ContextVar[list[int]] = ContextVar("budget")
"""What the render that runs may still print; one mutable cell, set by template.py."""

_FILTER_NAMES = frozenset({
    "abs", "capitalize", "dictsort", "e", "escape", "float", "forceescape", "groupby", "lower",
    "max", "min", "safe", "sort", "string", "striptags", "title", "trim", "truncate", "unique",
    "upper", "urlencode", "wordcount",
})  # fmt: skip
_SHALLOW_FILTER_NAMES = frozenset({
    "count", "d", "default", "first", "items", "last", "length", "list", "map", "reject",
    "rejectattr", "reverse", "select", "selectattr",
})  # fmt: skip
"""Filters that look at no more of a list than its items."""

_COMPARING_TEST_NAMES = frozenset({
    "eq", "equalto", "==", "ne", "!=", "lt", "lessthan", "<", "le", "<=", "gt", "greaterthan", ">",
    "ge", ">=", "in", "lower", "upper",
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
    elif isinstance(value, _SIZED):
        spend(len(value))


def pay_for_all_of(value: Any) -> None:
    """Pay for a value and all that is in it, as often as it is there: a list may hold one twice."""
    waiting = [value]
    while waiting:
        one: Any = waiting.pop()
        pay_for(one)
        if isinstance(one, _HOLDERS):
            spend(WORK_PER_LIST)
            waiting.extend(one.items() if isinstance(one, dict) else one)
        elif isinstance(one, Namespace):
            raise SecurityError("a namespace is no value; its attributes are")


def pay_together(values: Sequence[Any]) -> None:
    """Pay for work on the first of these values that the others take part in."""
    for value in values:
        pay_for_all_of(value)
    lengths = [len(value) for value in values if isinstance(value, str)]
    if len(lengths) > 1:
        spend(lengths[0] * sum(lengths[1:]) // PAIRS_PER_CHARACTER)


def _paid(function: Callable[..., Any]) -> Callable[..., Any]:
    # functools.wraps keeps the attribute by which Jinja passes an environment or context.
    @functools.wraps(function)
    def paid(*arguments: Any, **named: Any) -> Any:
        here = [_here(one) for one in arguments]
        pay_together([*here, *named.values()])
        return function(*here, **named)

    return paid


def _here(value: Any) -> Any:
    # What an iterator gives can be paid for only when it is there.
    return list(value) if not isinstance(value, str) and isinstance(value, Iterator) else value


def _compared(value: Any) -> Any:
    value = _here(value)
    pay_for_all_of(value)
    return value


def _paid_shallow(function: Callable[..., Any]) -> Callable[..., Any]:
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
    lengths = [len(finalize(value)) for value in (*values, *named.values())]
    check_length(len(text) + text.count("%") * max([_LONGEST_NUMBER, *lengths]))
    result = str(FILTERS["format"](text, *values, **named))
    pay_for(result)
    return result


def _join(items: Iterable[Any], separator: str = "", attribute: str | None = None) -> str:
    if attribute is not None:
        raise SecurityError("join: use map(attribute=...) before it")
    texts = [str(finalize(item)) for item in items]
    check_length(sum(map(len, texts)) + len(separator) * len(texts))
    result = separator.join(texts)
    pay_for(result)
    return result


def _replace(text: str, old: str, new: str, count: int = -1) -> str:
    pay_together([text, old, new])
    text, old, new = str(text), str(old), str(new)
    found = text.count(old)
    check_length(len(text) + (found if count < 0 else min(count, found)) * len(new))
    result = text.replace(old, new, count)
    pay_for(result)
    return result


def _round(value: float, precision: int = 0, method: str = "common") -> float:
    if not -20 <= precision <= 20:  # noqa: PLR2004 - beyond the digits of a float
        raise SecurityError("round: a precision of more than 20 digits")
    return float(FILTERS["round"](value, precision, method))


def _int(value: Any, default: int = 0, base: int = 10) -> int:
    pay_for_all_of(value)
    number = int(FILTERS["int"](value, default, base))
    if number.bit_length() > MAX_INTEGER_BITS:
        too_big()
    return number


@pass_environment
def _sum(
    environment: Environment,
    items: Iterable[Any],
    attribute: str | int | None = None,
    start: float = 0,
) -> Any:
    if not isinstance(start, int | float | Decimal):
        raise SecurityError("sum: it begins with a number")
    pay_for(items)
    return FILTERS["sum"](environment, items, attribute, start)


def allowed_filters() -> dict[str, Callable[..., Any]]:
    """Give the filters by name; the ones of Jinja2 that can build big things are bounded here."""
    return {
        **{name: _paid(FILTERS[name]) for name in _FILTER_NAMES},
        **{name: _paid_shallow(FILTERS[name]) for name in _SHALLOW_FILTER_NAMES},
        "format": _format,
        "int": _int,
        "join": _join,
        "replace": _replace,
        "round": _round,
        "sum": _sum,
        PAID: _compared,
    }


def bounded_tests() -> dict[str, Callable[..., Any]]:
    """Give the tests that compare, by name, with their price."""
    return {name: _paid(cast("Callable[..., Any]", TESTS[name])) for name in _COMPARING_TEST_NAMES}
