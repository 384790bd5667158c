"""A demo's verdict: a campaign that adds up passes, and each kind of mismatch is noticed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from campaign_worker.demo.facts import Delivery, Evidence, Handover, Jobs, Row
from campaign_worker.demo.reading import Counts, Reading, Seen, Tracked
from campaign_worker.demo.report import as_json
from campaign_worker.demo.verdict import judge
from campaign_worker.tracking.classify import EventKind, Visitor

PEOPLE = ("a@x.example", "b@x.example", "c@x.example")
OPEN = Seen(f"<{PEOPLE[0]}/0>", EventKind.OPEN, Visitor.HUMAN, machine=False)
CLICK = Seen(f"<{PEOPLE[1]}/0>", EventKind.CLICK, Visitor.HUMAN, machine=False)
SCAN = Seen(f"<{PEOPLE[1]}/1>", EventKind.CLICK, Visitor.SCANNER, machine=True)
SEEN = {OPEN: 2, CLICK: 1, SCAN: 4}
COUNTS = Counts(
    opened=2,
    opens=2,
    machine_opens=0,
    clicked=1,
    clicks=1,
    machine_clicks=4,
    unsubscribed=0,
)


def sound() -> Evidence:
    """Return a campaign of three that adds up; one opened twice, one clicked and was scanned."""
    keys = [(address, step) for address in PEOPLE for step in (0, 1)]
    return Evidence(
        expected=PEOPLE,
        steps=2,
        enqueued=3,
        rows=[Row(address, step, "sent", f"<{address}/{step}>", 0) for address, step in keys],
        deliveries=[Delivery(address, f"<{address}/{step}>") for address, step in keys],
        sent_count=6,
        usage_events=6,
        untrue_counts=0,
        jobs=Jobs(left={"waiting": 0}, completed=6, failed=0, stalled=0, retried=0),
        reading=Reading(seen=SEEN, unsubscribed={}, wrong={}),
        tracked=Tracked(seen=SEEN, unsubscribed=frozenset(), counts=COUNTS),
        handover=Handover(in_flight=2, finished=2, handed_back=1, abandoned=0, seconds=0.3),
        seconds=1.0,
    )


def left(*, in_time: bool = True) -> Evidence:
    """Return one that adds up with somebody who unsubscribed before the follow-up."""
    evidence = sound()
    rows = list(evidence.rows)
    rows[5] = replace(rows[5], state="skipped", message_id=None)
    counts = replace(COUNTS, unsubscribed=1)
    return replace(
        evidence,
        rows=rows,
        deliveries=evidence.deliveries[:5],
        sent_count=5,
        usage_events=5,
        reading=replace(evidence.reading, unsubscribed={PEOPLE[2]: in_time}),
        tracked=Tracked(SEEN, frozenset({PEOPLE[2]}), counts),
    )


def with_row(number: int, **changes: Any) -> Callable[[Evidence], Evidence]:
    def change(evidence: Evidence) -> Evidence:
        rows = list(evidence.rows)
        rows[number] = replace(rows[number], **changes)
        return replace(evidence, rows=rows)

    return change


def with_deliveries(change: Callable[[list[Delivery]], object]) -> Callable[[Evidence], Evidence]:
    def apply(evidence: Evidence) -> Evidence:
        deliveries = list(evidence.deliveries)
        change(deliveries)
        return replace(evidence, deliveries=deliveries)

    return apply


def with_jobs(**changes: Any) -> Callable[[Evidence], Evidence]:
    return lambda evidence: replace(evidence, jobs=replace(evidence.jobs, **changes))


def with_tracked(**changes: Any) -> Callable[[Evidence], Evidence]:
    return lambda evidence: replace(evidence, tracked=replace(evidence.tracked, **changes))


def with_counts(**changes: Any) -> Callable[[Evidence], Evidence]:
    return with_tracked(counts=replace(COUNTS, **changes))


def with_handover(**changes: Any) -> Callable[[Evidence], Evidence]:
    def change(evidence: Evidence) -> Evidence:
        assert evidence.handover is not None
        return replace(evidence, handover=replace(evidence.handover, **changes))

    return change


def test_a_sound_campaign_adds_up() -> None:
    report = judge(sound())
    assert report.adds_up, report.problems
    assert (report.enqueued, report.accepted, report.sent, report.follow_ups) == (3, 6, 6, 3)
    assert (report.lost, report.duplicated, report.miscounted, report.stray) == (0, 0, 0, 0)


def test_what_the_drain_finished_and_what_was_handed_back_was_handed_over() -> None:
    report = judge(sound())
    assert (report.handed_over, report.finished_in_drain, report.handed_back) == (3, 2, 1)


def test_without_a_redeploy_nothing_needs_to_have_been_in_flight() -> None:
    report = judge(replace(sound(), handover=None))
    assert report.adds_up
    assert report.handed_over == 0
    assert not report.redeployed


def test_what_was_read_is_counted_as_the_readers_did_it() -> None:
    report = judge(sound())
    assert report.read == COUNTS
    assert (report.opened, report.opens, report.machine_opens) == (2, 2, 0)
    assert (report.clicked, report.clicks, report.machine_clicks) == (1, 1, 4)


@pytest.mark.parametrize("in_time", [True, False])
def test_who_unsubscribed_gets_no_follow_up_and_it_adds_up(in_time: bool) -> None:
    report = judge(left(in_time=in_time))
    assert report.adds_up, report.problems
    assert (report.accepted, report.skipped, report.unsubscribed) == (5, 1, 1)
    assert (report.lost, report.unwanted) == (0, 0)


def test_a_follow_up_to_who_unsubscribed_in_time_is_unwanted() -> None:
    evidence, before = left(), sound()
    sent = replace(
        evidence, rows=before.rows, deliveries=before.deliveries, sent_count=6, usage_events=6
    )
    report = judge(sent)
    assert (report.unwanted, report.lost, report.duplicated) == (1, 0, 0)
    assert "1 mails went to who had unsubscribed" in report.problems
    assert "0 rows are skipped instead of 1" in report.problems


def test_a_follow_up_that_an_unsubscribe_came_too_late_for_is_right() -> None:
    evidence, before = left(in_time=False), sound()
    sent = replace(
        evidence, rows=before.rows, deliveries=before.deliveries, sent_count=6, usage_events=6
    )
    report = judge(sent)
    assert report.adds_up, report.problems
    assert (report.accepted, report.unsubscribed) == (6, 1)


BROKEN: dict[str, tuple[Callable[[Evidence], Evidence], dict[str, int], str]] = {
    "a mail that never arrived": (
        with_deliveries(lambda mails: mails.pop()),
        {"lost": 1, "miscounted": 1, "accepted": 5},
        "1 mails are lost",
    ),
    "a mail that arrived twice": (
        with_deliveries(lambda mails: mails.append(mails[0])),
        {"duplicated": 1, "lost": 0, "miscounted": 0},
        "1 mails went out more than once",
    ),
    "a mail that arrived again under another Message-ID": (
        with_deliveries(lambda mails: mails.append(Delivery(PEOPLE[0], "<again>"))),
        {"duplicated": 1, "stray": 1},
        "1 mails belong to no row",
    ),
    "a mail to somebody else": (
        with_deliveries(lambda mails: mails.append(Delivery("z@x.example", "<z>"))),
        {"stray": 1, "duplicated": 0},
        "1 mails belong to no row",
    ),
    "one mail lost and another sent twice": (
        with_deliveries(lambda mails: mails.__setitem__(0, mails[2])),
        {"lost": 1, "duplicated": 1, "miscounted": 1, "accepted": 6},
        "1 mails are lost",
    ),
    "a mail of one that went to another": (
        with_deliveries(
            lambda mails: mails.__setitem__(0, replace(mails[0], address=PEOPLE[1])),
        ),
        {"lost": 1, "duplicated": 1, "stray": 1},
        "1 mails are lost",
    ),
    "an accepted mail whose row is in doubt": (
        with_row(0, state="in_doubt"),
        {"miscounted": 3, "in_doubt": 1, "sent": 5, "lost": 0},
        "1 rows are in_doubt",
    ),
    "a row that failed": (with_row(1, state="failed"), {"failed": 1}, "1 rows are failed"),
    "a row that was skipped": (with_row(1, state="skipped"), {"skipped": 1}, "1 rows are skipped"),
    "a row that never ended": (
        with_row(1, state="sending"),
        {"unfinished": 1},
        "1 rows are sending",
    ),
    "an attempt that was spent": (
        with_row(1, attempts=1),
        {"attempts_spent": 1},
        "1 attempts were spent on rows",
    ),
    "a follow-up that has no row": (
        lambda evidence: replace(evidence, rows=evidence.rows[:-1]),
        {"lost": 1, "stray": 1, "follow_ups": 2},
        "5 rows instead of 6",
    ),
    "a count that is not what its rows say": (
        lambda evidence: replace(evidence, sent_count=7),
        {"miscounted": 1},
        "1 differences between Postgres and the SMTP server",
    ),
    "a bill that is too short": (
        lambda evidence: replace(evidence, usage_events=4),
        {"miscounted": 2},
        "2 differences between Postgres and the SMTP server",
    ),
    "an untrue count found by verify_counts": (
        lambda evidence: replace(evidence, untrue_counts=1),
        {"miscounted": 1},
        "1 differences between Postgres and the SMTP server",
    ),
    "an open that was lost": (
        with_tracked(seen={**SEEN, OPEN: 1}, counts=replace(COUNTS, opens=1)),
        {"miscounted": 2, "opens": 1},
        "1 opens by people in Postgres instead of 2",
    ),
    "an open that was counted twice": (
        with_counts(opens=3),
        {"miscounted": 1, "opens": 3},
        "3 opens by people in Postgres instead of 2",
    ),
    "a machine that was taken for a person": (
        with_tracked(seen={OPEN: 2, CLICK: 1, SCAN._replace(machine=False): 4}),
        {"miscounted": 8},
        "8 differences between Postgres and what the readers did",
    ),
    "a click that was written to another mail": (
        with_tracked(seen={OPEN: 2, CLICK._replace(message_id=OPEN.message_id): 1, SCAN: 4}),
        {"miscounted": 2, "clicks": 1},
        "2 differences between Postgres and what the readers did",
    ),
    "a mail that nobody clicked": (
        with_counts(clicked=2),
        {"clicked": 2},
        "2 mails clicked by people in Postgres instead of 1",
    ),
    "an unsubscribe of somebody else": (
        with_tracked(unsubscribed=frozenset({PEOPLE[0]})),
        {"miscounted": 1},
        "1 differences between Postgres and what the readers did",
    ),
    "a link that led elsewhere": (
        lambda evidence: replace(
            evidence, reading=replace(evidence.reading, wrong={"a link led elsewhere": 2})
        ),
        {"miscounted": 0},
        "2 times a link led elsewhere",
    ),
    "a recipient without a job": (
        lambda evidence: replace(evidence, enqueued=2),
        {"enqueued": 2},
        "2 of 3 jobs enqueued",
    ),
    "jobs that are left": (
        with_jobs(left={"waiting": 2, "delayed": 1, "active": 0}),
        {"jobs_left": 3},
        "jobs are left in Redis: 1 delayed, 2 waiting",
    ),
    "a job that failed": (with_jobs(failed=1), {"jobs_failed": 1}, "1 jobs failed"),
    "a job that completed only in Postgres": (
        with_jobs(completed=5),
        {},
        "5 jobs completed instead of 6",
    ),
    "a job that stalled": (with_jobs(stalled=1), {"stalled": 1}, "1 jobs stalled"),
    "a job that ran twice": (
        with_jobs(retried=1),
        {"attempts_spent": 1},
        "1 jobs were attempted more than once",
    ),
    "nothing in flight at the signal": (
        with_handover(in_flight=0, finished=0, handed_back=0),
        {"handed_over": 0},
        "nothing was in flight when the signal came",
    ),
    "jobs that the old worker abandoned": (
        with_handover(abandoned=1),
        {},
        "the old worker abandoned 1 jobs",
    ),
    "jobs that the old worker forgot": (
        with_handover(in_flight=5),
        {},
        "the old worker had 5 jobs in flight and accounts for 3",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_each_mismatch_is_noticed_and_named(name: str) -> None:
    spoil, numbers, sentence = BROKEN[name]
    report = judge(spoil(sound()))
    assert not report.adds_up
    assert sentence in report.problems
    assert {field: getattr(report, field) for field in numbers} == numbers


def test_the_json_is_one_line_with_every_number_and_every_problem() -> None:
    report = judge(replace(sound(), sent_count=7))
    text = as_json(report)
    document = json.loads(text)
    assert "\n" not in text
    assert document["adds_up"] is False
    assert document["problems"] == list(report.problems)
    for name in ("enqueued", "accepted", "sent", "follow_ups", "lost", "duplicated"):
        assert document[name] == getattr(report, name)
    for name in ("miscounted", "handed_over", "seconds"):
        assert document[name] == getattr(report, name)
    for name, due in document["read"].items():
        assert document[name] == getattr(report, name) == due
