"""Too many hard bounces at once are not believed; a window without them is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaign_worker.delivery.breaker import MOST_HARD, WINDOW, Breaker, Breakers, Judgement
from campaign_worker.errors import TooManyBounces
from metrics import Event, IntakeHeld

PAUSE_SECONDS = 600.0
BELIEVED = Judgement(suppress=True)
WITHHELD = Judgement(suppress=False)


def breaker_after(hard: int, other: int = 0) -> Breaker:
    breaker = Breaker(PAUSE_SECONDS)
    for row in range(hard):
        breaker.note(row, hard=1, other=0, now=0.0)
    for _ in range(other):
        breaker.note(0, hard=0, other=1, now=0.0)
    return breaker


def test_ten_hard_bounces_are_believed_and_the_eleventh_takes_all_of_them_back() -> None:
    breaker = Breaker(PAUSE_SECONDS)
    for row in range(MOST_HARD):
        assert breaker.note(row, hard=1, other=8, now=0.0) == BELIEVED
    tripped = breaker.note(10, hard=1, other=0, now=5.0)
    assert tripped == Judgement(suppress=False, tripped=True, withdraw=tuple(range(11)))
    assert breaker.rest_seconds(5.0) == PAUSE_SECONDS


def test_bounces_that_have_left_the_window_count_no_more() -> None:
    breaker = breaker_after(MOST_HARD, other=WINDOW)
    for row in range(100, 100 + MOST_HARD):
        assert breaker.note(row, hard=1, other=0, now=0.0) == BELIEVED
    assert breaker.note(999, hard=1, other=0, now=0.0).withdraw == (*range(100, 110), 999)


def test_what_was_on_its_way_when_it_tripped_suppresses_nobody_and_trips_nothing() -> None:
    breaker = breaker_after(MOST_HARD + 1)
    for row in range(50):
        assert breaker.note(row, hard=1, other=0, now=PAUSE_SECONDS - 1) == WITHHELD
    assert breaker.rest_seconds(PAUSE_SECONDS) == 0


def test_after_the_rest_bounces_are_believed_once_a_full_window_was_healthy() -> None:
    breaker = breaker_after(MOST_HARD + 1)
    now = PAUSE_SECONDS + 1
    assert breaker.note(1, hard=1, other=0, now=now) == WITHHELD
    for _ in range(WINDOW - 2):
        assert breaker.note(2, hard=0, other=1, now=now) == WITHHELD
    assert breaker.note(3, hard=1, other=0, now=now) == BELIEVED


def test_it_trips_again_when_the_flood_goes_on_after_the_rest() -> None:
    breaker = breaker_after(MOST_HARD + 1)
    now = PAUSE_SECONDS + 1
    judgements = [breaker.note(row, hard=1, other=0, now=now) for row in range(11)]
    assert [one.tripped for one in judgements] == [False] * 10 + [True]
    assert breaker.rest_seconds(now) == PAUSE_SECONDS


@given(st.lists(st.booleans(), max_size=400))
def test_it_trips_exactly_when_a_window_holds_more_than_ten(bounces: list[bool]) -> None:
    breaker = Breaker(PAUSE_SECONDS)
    for row, hard in enumerate(bounces):
        judgement = breaker.note(row, hard=int(hard), other=int(not hard), now=0.0)
        window = bounces[max(0, row + 1 - WINDOW) : row + 1]
        assert judgement.tripped == (sum(window) > MOST_HARD)
        if judgement.tripped:
            break


def test_the_rest_is_told_once_and_its_end_once() -> None:
    events: list[Event] = []

    class Notes:
        def on_event(self, event: Event) -> None:
            events.append(event)

    now = 0.0
    breakers = Breakers(["a", "b"], Notes(), pause_seconds=10.0, clock=lambda: now)
    for row in range(12):
        breakers.note("a", row, hard=1, other=0)
    assert breakers.reasons == ["hard bounces of a"]
    with pytest.raises(TooManyBounces, match=r"transport a: .*rests 10 s"):
        breakers.check("a")
    breakers.check("b")
    now = 11.0
    breakers.check("a")
    breakers.check("a")
    assert breakers.reasons == []
    assert events == [
        IntakeHeld("hard bounces of a", held=True),
        IntakeHeld("hard bounces of a", held=False),
    ]
