"""Cron patterns: hostile text, and what is known by heart. Node is asked in tests/conformance."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaign_worker.errors import SettingsError
from campaign_worker.queue.cron import parse
from campaign_worker.queue.occurrences import next_due_ms, zone_offset

BERLIN = ZoneInfo("Europe/Berlin")
CHILE = ZoneInfo("America/Santiago")


def due(pattern: str, after: str, zone: ZoneInfo = BERLIN) -> str:
    after_ms = int(datetime.fromisoformat(after).replace(tzinfo=zone).timestamp() * 1000)
    found = next_due_ms(parse(pattern), after_ms, zone_offset(zone.key))
    assert found is not None
    return datetime.fromtimestamp(found / 1000, zone).isoformat()


@given(st.text(alphabet="0123456789*?,-/#LHW()@ adfjmnostu\u0662\n", max_size=40), st.text())
def test_any_text_is_a_pattern_or_refused_by_name(pattern: str, seed: str) -> None:
    try:
        parsed = parse(pattern, seed)
    except SettingsError:
        return
    assert parsed.minutes
    assert set(parsed.hours) <= set(range(24))
    assert parsed.days <= set(range(1, 32))


@pytest.mark.parametrize("pattern", ["61 * * * *", "* * * * * * *", "\u0662 * * * *", "* " * 999])
def test_a_refusal_names_the_option(pattern: str) -> None:
    with pytest.raises(SettingsError) as refused:
        parse(pattern)
    assert refused.value.setting == "repeat.pattern"


@pytest.mark.parametrize("zone", ["", "Mars/Olympus", "../etc/passwd", "UTC+", "\0", "x" * 5000])
def test_any_text_is_a_zone_or_refused_by_name(zone: str) -> None:
    if not zone:
        assert zone_offset(zone)(0) == zone_offset(None)(0)
        return
    with pytest.raises(SettingsError) as refused:
        zone_offset(zone)
    assert refused.value.setting == "repeat.tz"


@pytest.mark.parametrize(
    ("pattern", "after", "expected"),
    [
        ("0 9 * * 1-5", "2026-03-27T10:00", "2026-03-30T09:00:00+02:00"),
        ("30 2 * * *", "2026-03-28T12:00", "2026-03-29T03:30:00+02:00"),
        ("30 2 * * *", "2026-10-25T02:45", "2026-10-26T02:30:00+01:00"),
        ("30 * * * *", "2026-10-25T02:45", "2026-10-25T02:30:00+01:00"),
        ("0 0 29 2 *", "2026-01-01T00:00", "2028-02-29T00:00:00+01:00"),
        ("0 8 L * *", "2026-02-01T00:00", "2026-02-28T08:00:00+01:00"),
        ("0 8 * * 1#2", "2026-11-10T00:00", "2026-12-14T08:00:00+01:00"),
        ("0 8 * * 5L", "2026-11-22T00:00", "2026-11-27T08:00:00+01:00"),
        ("0 8 * 2 1#5", "2026-11-22T00:00", "2044-02-29T08:00:00+01:00"),
    ],
)
def test_days_and_nights_come_as_the_calendar_and_the_clock_have_them(
    pattern: str, after: str, expected: str
) -> None:
    assert due(pattern, after) == expected


def test_a_midnight_that_the_clock_skips_is_made_up_for() -> None:
    assert due("0 0 * * *", "2026-09-05T12:00", CHILE) == "2026-09-06T01:00:00-03:00"


def test_a_day_that_never_comes_is_not_waited_for() -> None:
    assert next_due_ms(parse("0 0 31 2,4 *"), 0, zone_offset("UTC")) is None
