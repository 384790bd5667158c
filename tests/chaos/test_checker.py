"""The checker of chaos runs: what it finds in books that were cooked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from campaign_worker.embedded.smtp_server import ReceivedMail
from tests.chaos.kill.jobs import EndedJob, odds
from tests.chaos.kill.report import Books, Findings, compare
from tests.chaos.kill.sink import OpenMail

ADDRESS = "a@people.example"
DUE_MS = 1_000_000
FIRST, SECOND = "<1.1.0@x>", "<1.1.1@x>"


def row(step: int, state: str = "sent", **other: Any) -> dict[str, Any]:
    fields = {
        "email": ADDRESS, "step": step, "state": state, "reason": None, "detail": None,
        "attempts": 0, "message_id": (FIRST, SECOND)[step], "due_ms": DUE_MS,
        "recipient_id": 7, "campaign_id": 1,
    }  # fmt: skip
    return fields | other


def mail(message_id: str, *, late_ms: int = 10, content: bytes = b"x") -> ReceivedMail:
    at_ms = DUE_MS + late_ms
    return ReceivedMail(
        message_id, "s@x", (ADDRESS,), at_ms, 1, 1, "w", smtputf8=False, content=content
    )


def found(
    rows: Sequence[Mapping[str, Any]],
    mails: Sequence[ReceivedMail],
    cut_off: Sequence[OpenMail] = (),
    policy: str = "hold",
) -> Findings:
    sent = sum(one["state"] == "sent" for one in rows)
    books = Books(rows, sent_count=sent, usage=sent, untrue_counts=0)
    return compare(books, mails, cut_off, steps=2, policy=policy, not_before={ADDRESS: DUE_MS})


def open_mail(before: int, message_id: str | None = None) -> OpenMail:
    return OpenMail(ADDRESS, frozenset([FIRST, SECOND][:before]), message_id)


def troubles(findings: Findings) -> dict[str, int]:
    names = ("lost", "duplicated", "duplicated_unexplained", "miscounted", "in_doubt_unexplained")
    return {name: getattr(findings, name) for name in (*names, "early") if getattr(findings, name)}


BOTH = [row(0), row(1)]


def test_two_steps_that_were_sent_once_each_are_no_trouble() -> None:
    assert troubles(found(BOTH, [mail(FIRST), mail(SECOND)])) == {}


def test_a_row_that_says_sent_without_a_mail_is_lost_and_miscounted() -> None:
    assert troubles(found(BOTH, [mail(FIRST)])) == {"lost": 1, "miscounted": 1}


def test_a_mail_that_came_twice_is_explained_only_by_a_kill_in_its_midst() -> None:
    twice = [mail(FIRST), mail(FIRST), mail(SECOND)]
    unexplained = {"duplicated": 1, "duplicated_unexplained": 1}
    assert troubles(found(BOTH, twice, policy="resend")) == unexplained
    cut_off = [open_mail(1, SECOND)]
    assert troubles(found(BOTH, twice, cut_off, "resend")) == unexplained, "another step's"
    cut_off = [open_mail(0, FIRST)]
    assert troubles(found(BOTH, twice, cut_off, "resend")) == {"duplicated": 1}
    other = [mail(FIRST), mail(FIRST, content=b"y"), mail(SECOND)]
    assert troubles(found(BOTH, other, cut_off, "resend")) == unexplained, "not the same bytes"


@pytest.mark.parametrize(
    ("cut_off", "explained"),
    [
        ([], False),
        ([open_mail(1, SECOND)], True),
        ([open_mail(1)], True),
        # The same recipient's first mail, long before.
        ([open_mail(0, FIRST)], False),
        ([open_mail(0)], False),
    ],
)
def test_a_doubt_is_explained_by_its_recipient_and_its_step(
    cut_off: list[OpenMail], *, explained: bool
) -> None:
    findings = found([row(0), row(1, "in_doubt")], [mail(FIRST)], cut_off)
    assert troubles(findings) == ({} if explained else {"in_doubt_unexplained": 1})
    assert findings.in_doubt == 1


def test_a_mail_that_came_before_it_was_due_is_early() -> None:
    assert troubles(found(BOTH, [mail(FIRST), mail(SECOND, late_ms=-5)])) == {"early": 1}
    later = [row(0, due_ms=0), row(1)]
    assert troubles(found(later, [mail(FIRST, late_ms=-5), mail(SECOND)])) == {"early": 1}


def job(step: int, state: str = "completed", says: str = "sent") -> EndedJob:
    message_id = (FIRST, SECOND)[step] if says == "sent" else None
    return EndedJob(7, step, state, says, message_id)


def test_jobs_that_end_as_their_rows_are_at_odds_with_nothing() -> None:
    assert odds(BOTH, [job(0), job(1)], {1}) == {}
    assert odds([row(0, "in_doubt")], [job(0, "failed", "in_doubt")], {1}) == {}
    assert odds([row(0, "failed")], [job(0, "failed", "hard_bounce")], {1}) == {}
    assert odds([row(0, "skipped")], [job(0, "completed", "skipped")], {1}) == {}


@pytest.mark.parametrize(
    ("state", "ended", "problem"),
    [
        ("in_doubt", job(0), "job completed (sent), row in_doubt"),
        ("failed", job(0), "job completed (sent), row failed"),
        ("sent", job(0, "failed", "in_doubt"), "job failed (in_doubt), row sent"),
        ("sent", job(0, "failed", "RedisAway"), "job failed (RedisAway), row sent"),
        ("in_doubt", job(0, "failed", "exhausted"), "job failed (exhausted), row in_doubt"),
        ("sent", job(0, "completed", "None"), "job completed (None), row sent"),
        ("sent", job(0, "completed", "skipped"), "job completed (skipped), row sent"),
        ("scheduled", job(0), "job completed (sent), row scheduled"),
    ],
)
def test_a_job_that_ended_otherwise_than_its_row_is_at_odds(
    state: str, ended: EndedJob, problem: str
) -> None:
    assert odds([row(0, state)], [ended], {1}) == {problem: 1}


def test_a_job_with_another_message_id_or_without_a_row_is_at_odds() -> None:
    other = [row(0, message_id=SECOND)]
    assert odds(other, [job(0)], ()) == {"job sent another Message-ID than its row": 1}
    assert odds([], [job(0)], ()) == {"job completed (sent), row None": 1}


def test_a_job_that_is_kept_for_ever_and_gone_is_at_odds_with_its_row() -> None:
    assert odds(BOTH, [], {1}) == {"row sent, no job": 1}
    assert odds(BOTH, [], {2}) == {}
    assert odds([row(0, "scheduled")], [], {1}) == {}


def test_what_a_job_says_is_read_from_its_result_or_its_reason() -> None:
    data = '{"campaignId": 1, "recipientId": 7, "step": 1}'
    value = '{"outcome": "sent", "messageId": "<1.1.1@x>"}'
    assert EndedJob.of("completed", data, value, None) == job(1)
    assert EndedJob.of("failed", data, None, "in_doubt: no word") == job(1, "failed", "in_doubt")
    assert EndedJob.of("completed", data, "null", None).says == "None"
