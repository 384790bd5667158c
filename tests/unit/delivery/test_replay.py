"""What may be repeated, under which key, and when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaign_worker.delivery.replay import Replay, obstacle, pause_seconds, request_key


def replay(*, is_open: bool = True) -> Replay:
    return Replay("resend", b"key\n{}", "<1@x>", 60.0, is_open)


@pytest.mark.parametrize(
    ("is_open", "transport", "replays", "allowed"),
    [
        (True, "resend", True, True),
        (False, "resend", True, False),
        (True, "default", True, False),
        # The name is the same, and an SMTP server stands behind it now.
        (True, "resend", False, False),
    ],
)
def test_only_the_same_provider_within_its_time_is_asked_again(
    is_open: bool, transport: str, replays: bool, allowed: bool
) -> None:
    assert (obstacle(replay(is_open=is_open), transport, replays=replays) is None) is allowed


def test_pauses_follow_the_age_of_the_doubt_between_floor_and_a_quarter_of_an_hour() -> None:
    ages = [0.0, 30.0, 60.0, 120.0, 240.0, 5000.0]
    assert [pause_seconds(60.0, age, None) for age in ages] == [60, 60, 60, 120, 240, 900]
    assert pause_seconds(60.0, 0.0, 3600.0) == 3600
    assert pause_seconds(3600.0, 5000.0, None) == 3600


def test_a_key_is_the_rows_and_no_other_rows() -> None:
    key = request_key(1, 1_700_000_000.25, "1.1.0")
    assert key == request_key(1, 1_700_000_000.25, "1.1.0")
    others = {
        request_key(2, 1_700_000_000.25, "1.1.0"),
        request_key(1, 1_700_000_000.25, "1.1.1"),
        # A database that was set up anew, and counts from 1 again.
        request_key(1, 1_700_086_400.25, "1.1.0"),
    }
    assert len(others | {key}) == 4


@given(st.integers(min_value=1), st.floats(0, 1e11), st.text())
def test_a_key_is_always_one_that_a_header_may_carry(row: int, created: float, key: str) -> None:
    found = request_key(row, created, key)
    assert found.isascii()
    assert found.isprintable()
    assert " " not in found
    assert len(found) == 80
