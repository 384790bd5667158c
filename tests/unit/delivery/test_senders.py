"""A refused sender rests alone, and one mail at a time tries it again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaign_worker.delivery import senders as senders_module
from campaign_worker.delivery.senders import MOST_REJECTED, Sender, Senders, Wait
from metrics import Event, IntakeHeld

NEWS = Sender("default", 7, "news@example.org")
FLOOR_SECONDS = 60.0
SAID = "mail: 550 5.1.7 not here"
HELD = "refused senders of default"


class Bench:
    """Senders with a clock that is set, and what they told."""

    def __init__(self, floor_seconds: float = FLOOR_SECONDS) -> None:
        self.now = 0.0
        self.held: list[tuple[str, bool]] = []
        self.senders = Senders(self, floor_seconds=floor_seconds, clock=lambda: self.now)

    def on_event(self, event: Event) -> None:
        assert isinstance(event, IntakeHeld)
        self.held.append((event.reason, event.held))

    def waits(self, sender: Sender = NEWS) -> float:
        """Return how long a mail of the sender has to wait; 0: it may try now."""
        wait = self.senders.wait(sender)
        return 0.0 if wait is None else wait.seconds


def test_a_refused_sender_rests_and_says_in_the_servers_words_why() -> None:
    bench = Bench()
    assert bench.waits() == 0
    wait = Wait(f"sender refused: {SAID}", FLOOR_SECONDS)
    assert bench.senders.refused(NEWS, 3, SAID) == wait
    assert bench.senders.wait(NEWS) == wait
    assert bench.held == [(HELD, True)]
    assert bench.senders.reasons == [f"{HELD}: example.org in campaign 7"]


@pytest.mark.parametrize(
    "other",
    [
        Sender("bulk", 7, "news@example.org"),
        Sender("default", 8, "news@example.org"),
        Sender("default", None, "news@example.org"),
        Sender("default", 7, "other@example.org"),
    ],
    ids=["another transport", "another campaign", "no campaign", "a mended address"],
)
def test_nobody_else_rests(other: Sender) -> None:
    bench = Bench()
    bench.senders.refused(NEWS, 3, SAID)
    assert bench.waits(other) == 0


def test_after_the_rest_one_mail_tries_and_the_others_wait_for_what_it_learns() -> None:
    bench = Bench()
    bench.senders.refused(NEWS, 3, SAID)
    bench.now = FLOOR_SECONDS
    assert [bench.waits() for _ in range(3)] == [0, FLOOR_SECONDS, FLOOR_SECONDS]
    bench.senders.accepted(NEWS)
    assert bench.waits() == 0
    assert bench.senders.reasons == []
    assert bench.held == [(HELD, True), (HELD, False)]


def test_a_try_that_learns_nothing_is_followed_by_another() -> None:
    bench = Bench()
    bench.senders.refused(NEWS, 3, SAID)
    bench.now = FLOOR_SECONDS
    assert bench.waits() == 0
    bench.now += FLOOR_SECONDS
    assert [bench.waits(), bench.waits()] == [0, FLOOR_SECONDS]


def test_a_rest_is_as_long_as_the_trouble_has_lasted_between_the_floor_and_ten_minutes() -> None:
    bench = Bench()
    rests = []
    for _ in range(7):
        assert bench.waits() == 0
        rests.append(bench.senders.refused(NEWS, 3, SAID).seconds)
        bench.now += rests[-1]
    assert rests == [60, 60, 120, 240, 480, 600, 600]
    assert bench.held == [(HELD, True)], "told once"


def test_a_floor_of_nothing_still_leaves_the_server_alone_for_a_second() -> None:
    bench = Bench(floor_seconds=0.0)
    assert bench.senders.refused(NEWS, 3, SAID).seconds == 1.0


def test_answers_of_mails_that_were_on_their_way_begin_no_longer_rest() -> None:
    bench = Bench()
    for _ in range(50):
        bench.now += 0.001
        bench.senders.refused(NEWS, 3, SAID)
    assert bench.waits() == FLOOR_SECONDS


def test_a_mail_that_gets_past_mail_ends_the_rest_of_a_refused_sender() -> None:
    bench = Bench()
    bench.senders.refused(NEWS, 3, SAID)
    bench.senders.passed(NEWS)
    assert bench.waits() == 0
    assert bench.held[-1] == (HELD, False)


def test_ten_rejections_in_a_row_are_each_mails_own_and_the_eleventh_rests_the_sender() -> None:
    bench = Bench()
    for row in range(MOST_REJECTED):
        bench.senders.rejected(NEWS, row)
        assert bench.waits() == 0
    bench.senders.rejected(NEWS, 10)
    # Another mail's words could name its recipient.
    wait = Wait("11 mails in a row were rejected, the last is row 10", FLOOR_SECONDS)
    assert bench.senders.wait(NEWS) == wait
    bench.senders.passed(NEWS)
    assert bench.waits() == FLOOR_SECONDS, "what they are rejected for comes after MAIL"


def test_a_rejection_after_the_rest_costs_one_mail_and_an_accepted_one_ends_it() -> None:
    bench = Bench()
    for row in range(MOST_REJECTED + 1):
        bench.senders.rejected(NEWS, row)
    bench.now = FLOOR_SECONDS
    assert bench.waits() == 0
    bench.senders.rejected(NEWS, 11)
    assert bench.waits() == FLOOR_SECONDS
    bench.senders.accepted(NEWS)
    for row in range(MOST_REJECTED):
        bench.senders.rejected(NEWS, row)
    assert bench.waits() == 0


@given(st.lists(st.booleans(), max_size=200))
def test_it_rests_exactly_when_more_than_ten_in_a_row_were_rejected(answers: list[bool]) -> None:
    bench, row = Bench(), 0
    for rejected in answers:
        row = row + 1 if rejected else 0
        if rejected:
            bench.senders.rejected(NEWS, row)
        else:
            bench.senders.accepted(NEWS)
        assert (bench.waits() > 0) == (row > MOST_REJECTED)


def test_a_sender_that_nothing_tries_any_more_is_told_of_no_longer() -> None:
    bench = Bench()
    bench.senders.refused(NEWS, 3, SAID)
    bench.now = FLOOR_SECONDS + 899
    bench.senders.sweep()
    assert bench.held == [(HELD, True)]
    bench.now += 2
    bench.senders.sweep()
    assert bench.held == [(HELD, True), (HELD, False)]
    assert bench.senders.reasons == []
    bench.senders.refused(NEWS, 3, SAID)
    assert bench.held[-1] == (HELD, True), "and again when it matters again"


def test_a_transport_is_told_of_while_any_sender_of_it_rests_and_few_are_named() -> None:
    bench = Bench()
    several = [Sender("default", None, f"a@{number}.example") for number in range(5)]
    for sender in several:
        bench.senders.refused(sender, 3, SAID)
    named = "0.example, 1.example, 2.example and 2 more"
    assert bench.senders.reasons == [f"{HELD}: {named}"]
    for sender in several[1:]:
        bench.senders.accepted(sender)
    assert bench.held == [(HELD, True)]
    bench.senders.accepted(several[0])
    assert bench.held == [(HELD, True), (HELD, False)]


def test_what_is_kept_of_senders_is_bounded() -> None:
    bench = Bench()
    for number in range(senders_module._MOST_SENDERS + 1):
        bench.senders.refused(Sender("default", number, "a@example.org"), 3, SAID)
    assert len(bench.senders._troubles) == senders_module._MOST_SENDERS
    assert bench.waits(Sender("default", 0, "a@example.org")) == 0
    assert bench.waits(Sender("default", 1, "a@example.org")) == FLOOR_SECONDS
