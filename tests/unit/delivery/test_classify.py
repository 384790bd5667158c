"""Every SMTP ending has one verdict; the table of the documentation is the test's table."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from campaign_worker.delivery import classify
from campaign_worker.delivery.classify import hint_seconds, refused_in
from campaign_worker.errors import SmtpLost, SmtpPhase, SmtpRefused, TransportDown

DOCUMENT = Path(__file__).parents[3] / "docs" / "smtp-classification.md"
PHASES = [SmtpPhase.MAIL, SmtpPhase.RCPT, SmtpPhase.DATA, SmtpPhase.BODY]
CODES = [421, 450, 451, 452, 454, 500, 501, 503, 521, 530, 535, 550, 551, 552, 553, 554, 555]
DETAILS = ["0.0", "1.0", "1.1", "1.2", "1.3", "1.6", "1.7", "1.8", "1.10", "2.0", "2.1", "2.2",
           "2.3", "3.0", "3.4", "4.4", "5.3", "5.4", "6.7", "7.0", "7.1", "7.26"]  # fmt: skip


def table() -> list[tuple[str, str, str, str]]:
    rows = []
    for line in DOCUMENT.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 5 and not cells[0].startswith(("phase", "-")):
            rows.append((cells[0], cells[1], cells[2], cells[3]))
    return rows


def fits(pattern: str, value: str | None) -> bool:
    def one_fits(one: str) -> bool:
        if one == "any" or value is None:
            return one in {"any", "none"}
        return re.fullmatch(one.replace(".", r"\.").replace("x", r"\d+"), value) is not None

    return any(one_fits(one) for one in pattern.split(", "))


ROWS = table()
CASES = [
    (phase, code, enhanced)
    for phase, code in itertools.product(PHASES, CODES)
    for enhanced in [None, *(f"{code // 100}.{detail}" for detail in DETAILS)]
]


def expected(phase: SmtpPhase, code: int, enhanced: str | None) -> tuple[int, str]:
    for number, (phases, codes, enhanceds, name) in enumerate(ROWS):
        where = fits(phases, phase.value) and fits(codes.replace("xx", "x"), str(code))
        if where and fits(enhanceds, enhanced):
            return number, name
    raise AssertionError(f"no line of the table fits {phase} {code} {enhanced}")


def test_the_code_judges_as_the_documented_table_says() -> None:
    wrong = [
        (phase.value, code, enhanced, name, type(found).__name__)
        for phase, code, enhanced in CASES
        for name in [expected(phase, code, enhanced)[1]]
        for found in [refused_in(phase, code, enhanced, "text")]
        if type(found).__name__ != name
    ]
    assert wrong == []


def test_every_line_of_the_table_applies_to_some_case() -> None:
    assert {expected(*case)[0] for case in CASES} == set(range(len(ROWS)))
    assert len(ROWS) == 14


@pytest.mark.parametrize(
    ("ending", "name"),
    [
        (SmtpLost(SmtpPhase.BODY, "gone"), "Unknown"),
        (SmtpLost(SmtpPhase.DATA, "gone"), "Transient"),
        (SmtpLost(SmtpPhase.MAIL, "gone"), "Transient"),
        (TransportDown("default", SmtpPhase.GREETING, "no", 554), "TransportRefuses"),
        (TransportDown("default", SmtpPhase.CONNECT, "timed out"), "TransportRefuses"),
        (SmtpRefused(SmtpPhase.RCPT, 550, "5.1.1", "unknown user"), "HardBounce"),
        (SmtpRefused(SmtpPhase.BODY, 550, None, "spam"), "Rejected"),
        (SmtpRefused(SmtpPhase.MAIL, 550, None, "unknown sender"), "SenderRefused"),
        (SmtpRefused(SmtpPhase.MAIL, 553, "5.1.7", "not your domain"), "SenderRefused"),
        (SmtpRefused(SmtpPhase.MAIL, 550, "5.1.1", "sender unknown"), "SenderRefused"),
        (SmtpRefused(SmtpPhase.MAIL, 553, "5.6.7", "no SMTPUTF8"), "Rejected"),
        (SmtpRefused(SmtpPhase.MAIL, 550, "5.7.1", "not for you"), "TransportRefuses"),
        (SmtpRefused(SmtpPhase.RCPT, 550, "5.7.1", "you are listed"), "TransportRefuses"),
        (SmtpRefused(SmtpPhase.RCPT, 452, "4.3.1", "full"), "Throttled"),
    ],
)
def test_every_ending_has_a_verdict(
    ending: SmtpRefused | SmtpLost | TransportDown, name: str
) -> None:
    assert type(classify.classify(ending)).__name__ == name


def test_an_enhanced_code_of_another_class_is_not_believed() -> None:
    assert isinstance(refused_in(SmtpPhase.RCPT, 450, "5.1.1", ""), classify.Transient)
    assert isinstance(refused_in(SmtpPhase.BODY, 550, "4.2.2", ""), classify.Rejected)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("4.2.0 Greylisted, see http://postgrey.example/?; try again in 300 seconds", 300),
        ("Please try again in 5 minutes", 300),
        ("greylisted: retry in 1h", 3600),
        ("Greylisting in action, please come back in 00:05:00", 300),
        ("try again after 90s", 90),
        ("wait at least 15 mins before", 900),
        ("too fast, slow down for 30 sec", 30),
        ("try again in 3 days", None),
        ("try again in 999999 hours", 21_600),
        ("come back in 99:00:00", 21_600),
        ("try again later", None),
        ("in 5 messages", None),
        ("", None),
    ],
)
def test_hints_are_read_and_bounded(text: str, seconds: float | None) -> None:
    assert hint_seconds(text) == seconds


def test_hints_reach_transient_and_throttled_verdicts() -> None:
    text = "try again in 2 minutes"
    for code, kind in [(451, classify.Transient), (421, classify.Throttled)]:
        found = refused_in(SmtpPhase.RCPT, code, None, text)
        assert isinstance(found, kind)
        assert found == kind(f"rcpt: {code} {text}", 120.0)


@settings(deadline=None)
@given(
    st.sampled_from(list(SmtpPhase)),
    st.integers(400, 599),
    st.none() | st.from_regex(r"[45]\.\d{1,3}\.\d{1,3}", fullmatch=True),
    st.text(max_size=100),
)
def test_a_4xx_never_ends_for_good_and_a_5xx_is_never_a_throttle(
    phase: SmtpPhase, code: int, enhanced: str | None, text: str
) -> None:
    found = refused_in(phase, code, enhanced, text)
    if code < 500:
        assert isinstance(found, classify.Transient | classify.Throttled)
    else:
        assert not isinstance(found, classify.Throttled)
