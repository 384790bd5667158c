"""When a cron pattern is next due, in a time zone with its clock changes, as cron-parser 5 has it.

An hour that the clock leaves out is made up for in the hour it goes to; an hour that comes twice
counts once, unless every hour is asked for. Pure: reads no clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from typing import NamedTuple, TypeAlias
from zoneinfo import ZoneInfo

from campaign_worker.errors import SettingsError
from campaign_worker.queue.cron import Pattern

#: Seconds that local time is ahead of UTC, by epoch seconds.
Offset: TypeAlias = Callable[[int], int]

_DAY = 86_400
_HOUR = 3600
_HOURS = 24
_WEEK = 7
#: Local midnight is never further from UTC's than this.
_WIDEST_OFFSET = 15 * _HOUR
#: The calendar repeats itself in 28 years, but for a century that is no leap year.
_YEARS_AHEAD = 40
_EPOCH = date(1970, 1, 1)


class _Stretch(NamedTuple):
    """A part of a local day without a clock change: epoch seconds from `start` to before `end`."""

    start: int
    end: int
    offset: int
    #: Local hours that the clock change before this part left out, or that now come again.
    left_out: tuple[int, ...] = ()
    again: tuple[int, ...] = ()


def zone_offset(name: str | None) -> Offset:
    """Return the offsets of a time zone (IANA); without a name, those of the process.

    Raises SettingsError (`repeat.tz`) for a zone that is not known here.
    """
    if not name or name.lower() in {"local", "system", "default"}:
        return lambda at: time.localtime(at).tm_gmtoff
    fixed = _fixed_offset(name)
    if fixed is not None:
        return lambda _: fixed
    try:
        zone = ZoneInfo(name)
    except (KeyError, OSError, ValueError) as error:
        raise SettingsError("repeat.tz", f"unknown time zone {name!r}") from error
    return lambda at: _seconds(datetime.fromtimestamp(at, zone).utcoffset())


def next_due_ms(pattern: Pattern, after_ms: int, offset: Offset) -> int | None:
    """Return the first moment after `after_ms` (epoch milliseconds); None when there is none."""
    after = after_ms // 1000
    day = _EPOCH + timedelta(seconds=after + offset(after))
    last_year = day.year + _YEARS_AHEAD
    while day.year <= last_year:
        if day.month not in pattern.months:
            day = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
            continue
        if _is_on(pattern, day):
            due = next((at for at in _moments(pattern, day, offset) if at > after), None)
            if due is not None:
                return due * 1000
        day += timedelta(days=1)
    return None


def _is_on(pattern: Pattern, day: date) -> bool:
    tomorrow = day + timedelta(days=1)
    by_day = day.day in pattern.days or (pattern.last_day and tomorrow.day == 1)
    weekday = day.isoweekday() % _WEEK
    nth = (day.day + _WEEK - 1) // _WEEK
    in_last_week = (day + timedelta(days=_WEEK)).month != day.month
    by_weekday = (weekday in pattern.weekdays and pattern.occurrence in {0, nth}) or (
        in_last_week and weekday in pattern.last_weekdays
    )
    if pattern.any_weekday:
        return by_day
    return by_weekday if pattern.any_day else by_day or by_weekday


def _moments(pattern: Pattern, day: date, offset: Offset) -> Iterator[int]:
    midnight = (day - _EPOCH).days * _DAY
    every_hour = len(pattern.hours) == _HOURS
    for start, end, ahead, left_out, again in _stretches(midnight, offset):
        first = start + ahead - midnight
        last = end + ahead - midnight - 1
        for hour in range(first // _HOUR, last // _HOUR + 1):
            wanted = hour in pattern.hours
            if not every_hour:
                makes_up = hour == first // _HOUR and not set(left_out).isdisjoint(pattern.hours)
                wanted = (wanted or makes_up) and hour not in again
            if not wanted:
                continue
            for minute in pattern.minutes:
                for second in pattern.seconds:
                    at = midnight - ahead + hour * _HOUR + minute * 60 + second
                    if start <= at < end:
                        yield at


def _stretches(midnight: int, offset: Offset) -> Iterator[_Stretch]:
    """Yield the parts of a local day; `midnight` is its beginning as if local time were UTC."""
    low, high = midnight - _WIDEST_OFFSET, midnight + _DAY + _WIDEST_OFFSET
    before, after = offset(low), offset(high)
    if before == after:
        yield _Stretch(midnight - before, midnight + _DAY - before, before)
        return
    while high - low > 1:
        middle = (low + high) // 2
        if offset(middle) == before:
            low = middle
        else:
            high = middle
    change = high
    if midnight - before < change:
        yield _Stretch(midnight - before, min(change, midnight + _DAY - before), before)
    if change < midnight + _DAY - after:
        start = max(change, midnight - after)
        from_hour, to_hour = (change + before) // _HOUR, (change + after) // _HOUR
        # What is skipped or repeated before this day began is another day's.
        inside = midnight // _HOUR <= min(from_hour, to_hour) and start == change
        span = [at % _HOURS for at in range(min(from_hour, to_hour), max(from_hour, to_hour))]
        hours = tuple(span) if inside else ()
        yield _Stretch(start, midnight + _DAY - after, after, *_either(hours, after > before))


def _either(hours: tuple[int, ...], forward: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return (hours, ()) if forward else ((), hours)


def _fixed_offset(name: str) -> int | None:
    """Read the names that luxon takes for a fixed offset: UTC, UTC+2, utc-03:30."""
    if not name.upper().startswith("UTC"):
        return None
    hours, _, minutes = name[3:].partition(":")
    if not hours and not minutes:
        return 0
    digits = hours[1:] + minutes
    if hours[:1] not in {"+", "-"} or not digits.isdecimal() or not digits.isascii():
        return None
    seconds = int(hours[1:] or 0) * _HOUR + int(minutes or 0) * 60
    return -seconds if hours[0] == "-" else seconds


def _seconds(offset: timedelta | None) -> int:
    return 0 if offset is None else int(offset.total_seconds())
