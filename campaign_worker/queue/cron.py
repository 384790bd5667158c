"""Cron patterns as BullMQ's schedulers use them, read as Node's cron-parser 5 reads them.

Five fields or six (seconds first), fewer are filled up from the left. Parsing only; when a pattern
is next due says occurrences.py.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from campaign_worker.errors import SettingsError

_PREDEFINED = {
    "@yearly": "0 0 0 1 1 *",
    "@annually": "0 0 0 1 1 *",
    "@monthly": "0 0 0 1 * *",
    "@weekly": "0 0 0 * * 0",
    "@daily": "0 0 0 * * *",
    "@hourly": "0 0 * * * *",
    "@minutely": "0 * * * * *",
    "@secondly": "* * * * * *",
    "@weekdays": "0 0 0 * * 1-5",
    "@weekends": "0 0 0 * * 0,6",
}
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_WEEKDAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_NAMES = {name: n for n, name in enumerate(_WEEKDAYS)} | {n: i for i, n in enumerate(_MONTHS, 1)}
_MONTH_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_LEFT_OUT = ("0", "*", "*", "*", "*", "*")
_LONGEST_PATTERN = 1024
_MOST_VALUES = 256
_HASHED = re.compile(r"H(?:\(([0-9]+)-([0-9]+)\))?(?:/([0-9]+))?")
_OCCURRENCE = re.compile(r"([^#,/-]+)#([1-5])")
_LAST = re.compile(r"([0-9]{0,2})L")
_WEEK = 7


@dataclass(frozen=True, slots=True)
class Pattern:
    """A parsed pattern. Weekdays count from Sunday = 0; `hours`, `minutes`, `seconds` ascend.

    `last_day`: also on a month's last day. `last_weekdays`: also on a month's last such weekday.
    `occurrence`: only the nth such weekday of a month, 0 for each. `any_day`, `any_weekday`: the
    field was a plain `*` or `?`.
    """

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    last_day: bool
    last_weekdays: frozenset[int]
    occurrence: int
    any_day: bool
    any_weekday: bool


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    least: int
    most: int
    names: bool = False
    last: bool = False


_SECOND = _Field("second", 0, 59)
_MINUTE = _Field("minute", 0, 59)
_HOUR = _Field("hour", 0, 23)
_DAY = _Field("day of month", 1, 31, last=True)
_MONTH = _Field("month", 1, 12, names=True)
_WEEKDAY = _Field("day of week", 0, 7, names=True, last=True)


def parse(pattern: str, hash_seed: str | None = None) -> Pattern:
    """Read a pattern; `hash_seed` settles what `H` stands for, which else is left to chance.

    Raises SettingsError (`repeat.pattern`) for what cron-parser refuses.
    """
    if len(pattern) > _LONGEST_PATTERN:
        raise _wrong(f"is longer than {_LONGEST_PATTERN} characters")
    given = _PREDEFINED.get(pattern, pattern).split() or ["*"]
    if len(given) > len(_LEFT_OUT):
        raise _wrong("has more than 6 fields")
    second, minute, hour, day, month, weekday = (*_LEFT_OUT[: -len(given)], *given)
    chance = _chance(hash_seed)
    # In this order, in which they draw from the same source of chance.
    seconds = _numbers(second, _SECOND, chance)
    minutes = _numbers(minute, _MINUTE, chance)
    hours = _numbers(hour, _HOUR, chance)
    months = _numbers(month, _MONTH, chance)
    days, last_days = _values(day, _DAY, chance)
    plain, occurrence = _occurrence(weekday)
    weekdays, last_weekdays = _values(plain, _WEEKDAY, chance)
    any_weekday = weekday in {"*", "?"}
    return Pattern(
        seconds=seconds,
        minutes=minutes,
        hours=hours,
        days=_of_month(days, months, rescued=bool(last_days) or not any_weekday),
        months=frozenset(months),
        weekdays=frozenset(weekdays),
        last_day=bool(last_days),
        last_weekdays=frozenset(last_weekdays),
        occurrence=occurrence,
        any_day=day in {"*", "?"},
        any_weekday=any_weekday,
    )


def _numbers(text: str, field: _Field, chance: Callable[[], float]) -> tuple[int, ...]:
    return tuple(sorted(_values(text, field, chance)[0]))


def _values(text: str, field: _Field, chance: Callable[[], float]) -> tuple[list[int], list[int]]:
    """Return the numbers of a field, and those (0 for none) that stand before an `L`."""
    if field.names:
        text = re.sub(r"[a-zA-Z]{3}", _number_of, text)
    text = re.sub(r"[*?]", f"{field.least}-{field.most}", text)
    draw = chance()
    text = _HASHED.sub(lambda match: _hashed(match, field, draw), text)
    numbers: list[int] = []
    last: list[int] = []
    for part in text.split(","):
        match = _LAST.fullmatch(part) if field.last else None
        if match is None:
            numbers += _range(part, field)
        elif field is _WEEKDAY:
            last.append(_number(match[1], field) % _WEEK)
        else:
            last.append(int(match[1] or 0))
        if len(numbers) > _MOST_VALUES:
            raise _wrong(f"lists too many values in {field.name}")
    if len(set(numbers)) < len(numbers):
        raise _wrong(f"names a value of {field.name} twice")
    return numbers, last


def _range(part: str, field: _Field) -> list[int]:
    span, slash, step = part.partition("/")
    if slash and "-" not in span:
        span = f"{span}-{field.most}"
    first, dash, last = span.partition("-")
    if not dash:
        value = _number(first, field)
        return [value % _WEEK if field is _WEEKDAY else value]
    start, end = _number(first, field), _number(last, field)
    every = int(step) if re.fullmatch(r"[0-9]+", step) else int(not slash)
    if start > end or every < 1:
        raise _wrong(f"has no such range in {field.name}: {part}")
    values = list(range(start, end + 1, every))
    if field is _WEEKDAY and end % _WEEK == 0 and (end - start) % every == 0 and start > 0:
        # Sunday is 0 and 7.
        values.insert(0, 0)
    return values


def _number(text: str, field: _Field) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text) or not field.least <= int(text) <= field.most:
        raise _wrong(f"{field.name} must be {field.least}-{field.most}, not {text!r}")
    return int(text)


def _number_of(name: re.Match[str]) -> str:
    number = _NAMES.get(name[0].lower())
    if number is None:
        raise _wrong(f"has an unknown name: {name[0]}")
    return str(number)


def _occurrence(weekday: str) -> tuple[str, int]:
    if "#" not in weekday:
        return weekday, 0
    match = _OCCURRENCE.fullmatch(weekday)
    if match is None:
        raise _wrong(f"has no such occurrence of a weekday: {weekday}")
    return match[1], int(match[2])


def _of_month(days: list[int], months: tuple[int, ...], *, rescued: bool) -> frozenset[int]:
    """Refuse days that the only month never has, unless something else can be due."""
    if len(months) == 1 and days and min(days) > _MONTH_DAYS[months[0] - 1] and not rescued:
        raise _wrong("names a day that its month never has")
    return frozenset(days)


def _hashed(match: re.Match[str], field: _Field, draw: float) -> str:
    first, last, step = match.groups()
    start = max(field.least, int(first)) if first else field.least
    end = min(field.most, int(last)) if last else field.most
    if start > end or (first and int(first) > int(last)):
        raise _wrong(f"has no such range in {field.name}: {match[0]}")
    one = str(math.floor(draw * (end - start + 1)) + start)
    if step is None:
        return one
    every = int(step)
    if every < 1:
        raise _wrong(f"has no such step: {match[0]}")
    begin = start // every * every + math.floor(draw * every)
    values = [str(value) for value in range(begin, end + 1, every) if value >= start]
    return ",".join(values) or one


def _chance(seed: str | None) -> Callable[[], float]:
    """Return the source of chance that cron-parser takes: FNV-1a of the seed, then mulberry32."""
    if not seed:
        return random.random  # so that many schedulers do not all run at once
    state = 2166136261
    units = seed.encode("utf-16-le", "surrogatepass")
    for low, high in zip(units[::2], units[1::2], strict=True):
        state = (state ^ (low | high << 8)) * 16777619 & 0xFFFFFFFF

    def draw() -> float:
        nonlocal state
        state = state + 0x6D2B79F5 & 0xFFFFFFFF
        mixed = (state ^ state >> 15) * (state | 1) & 0xFFFFFFFF
        mixed ^= mixed + ((mixed ^ mixed >> 7) * (mixed | 61) & 0xFFFFFFFF) & 0xFFFFFFFF
        return (mixed ^ mixed >> 14) / 2**32

    return draw


def _wrong(problem: str) -> SettingsError:
    return SettingsError("repeat.pattern", problem)
