"""The checker of chaos runs: what it finds in books that were cooked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from campaign_worker.embedded.smtp_server import ReceivedMail
from tests.chaos.kill.report import Books, Findings, compare
from tests.chaos.kill.sink import OpenMail

ADDRESS = "a@people.example"
DUE_MS = 1_000_000
FIRST, SECOND = "<1.1.0@x>", "<1.1.1@x>"


def row(step: int, state: str = "sent", **other: Any) -> dict[str, Any]:
    fields = {
        "email": ADDRESS, "step": step, "state": state, "reason": None, "detail": None,
        "attempts": 0, "message_id": (FIRST, SECOND)[step], "due_ms": DUE_MS,
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
