"""A limit counts each key by itself, in memory that does not grow, and begins anew each minute."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from campaign_worker.tracking.limits import WINDOW_SECONDS, RateLimit


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_so_many_pass_in_a_minute_and_so_many_in_the_next() -> None:
    clock = Clock()
    limit = RateLimit(3, clock)
    assert [limit.allows("a") for _ in range(5)] == [True] * 3 + [False] * 2
    assert limit.allows("b")
    clock.seconds = WINDOW_SECONDS
    assert [limit.allows("a") for _ in range(4)] == [True] * 3 + [False]


def test_nought_is_no_limit() -> None:
    limit = RateLimit(0)
    assert all(limit.allows("a") for _ in range(10_000))


@given(st.lists(st.text(max_size=3), max_size=200), st.integers(1, 5))
def test_no_key_ever_passes_more_often_than_the_limit(keys: list[str], most: int) -> None:
    limit = RateLimit(most, Clock())
    passed = [key for key in keys if limit.allows(key)]
    assert all(passed.count(key) <= most for key in passed)


def test_many_keys_hardly_disturb_each_other() -> None:
    limit = RateLimit(60, Clock())
    assert all(limit.allows(f"key {number}") for number in range(100_000))
