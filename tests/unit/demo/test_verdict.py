"""A demo's verdict: a campaign that adds up passes, and each kind of mismatch is noticed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from campaign_worker.demo.report import as_json
from campaign_worker.demo.verdict import Delivery, Evidence, Handover, Jobs, Row, judge

PEOPLE = ("a@x.example", "b@x.example", "c@x.example")


def sound() -> Evidence:
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
        handover=Handover(in_flight=2, finished=2, handed_back=1, abandoned=0, seconds=0.3),
        seconds=1.0,
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
