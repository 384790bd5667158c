"""Every answer of a provider's API has one verdict; the documented table is the test's table."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaign_worker.delivery.classify import MAX_HINT_SECONDS, Rejected, Throttled
from campaign_worker.delivery.classify_http import (
    QUOTA_SECONDS,
    Again,
    HttpVerdict,
    classify_http,
    refused_with,
)
from campaign_worker.errors import HttpLost, HttpRefused

DOCUMENT = Path(__file__).parents[3] / "docs" / "resend-classification.md"
STATUSES = [301, 307, 400, 401, 402, 403, 404, 405, 407, 408, 409, 413, 422, 429, 451,
            500, 501, 502, 503, 504, 520]  # fmt: skip
NAMES = ["", "validation_error", "missing_required_field", "missing_api_key", "invalid_api_key",
         "restricted_api_key", "suspended_api_key", "invalid_idempotent_request",
         "invalid_from_address", "concurrent_idempotent_requests", "daily_quota_exceeded",
         "monthly_quota_exceeded", "rate_limit_exceeded", "internal_server_error",
         "something_new"]  # fmt: skip


def table() -> list[tuple[str, str, str]]:
    rows = []
    for line in DOCUMENT.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and not cells[0].startswith(("status", "-")):
            rows.append((cells[0], cells[1], cells[2]))
    return rows


def fits(pattern: str, value: str) -> bool:
    return any(
        one == "any" or re.fullmatch(one.replace("xx", r"\d\d"), value) is not None
        for one in pattern.split(", ")
    )


ROWS = table()
CASES = list(itertools.product(STATUSES, NAMES))


def expected(status: int, name: str) -> tuple[int, str]:
    for number, (statuses, names, verdict) in enumerate(ROWS):
        if fits(statuses, str(status)) and fits(names, name):
            return number, verdict
    raise AssertionError(f"no line of the table fits {status} {name}")


def shown(verdict: HttpVerdict) -> str:
    rests = isinstance(verdict, Again) and verdict.rests
    return type(verdict).__name__ + (" and rests" if rests else "")


def test_the_code_judges_as_the_documented_table_says() -> None:
    wrong = [
        (status, name, expected(status, name)[1], found)
        for status, name in CASES
        for found in [shown(refused_with(status, name, "detail"))]
        if found != expected(status, name)[1]
    ]
    assert wrong == []


def test_every_line_of_the_table_applies_to_some_case() -> None:
    assert {expected(*case)[0] for case in CASES} == set(range(len(ROWS)))
    assert len(ROWS) == 11


def test_no_answer_is_asked_about_again() -> None:
    assert classify_http(HttpLost("gone")) == Again("gone")


@pytest.mark.parametrize(
    ("name", "retry_after", "hint"),
    [
        ("rate_limit_exceeded", 7.0, 7.0),
        ("rate_limit_exceeded", None, None),
        ("rate_limit_exceeded", 1e9, MAX_HINT_SECONDS),
        ("daily_quota_exceeded", None, QUOTA_SECONDS),
        ("daily_quota_exceeded", 7200.0, 7200.0),
    ],
)
def test_the_providers_wish_is_heeded_and_bounded(
    name: str, retry_after: float | None, hint: float | None
) -> None:
    found = classify_http(HttpRefused(429, name, "slow", retry_after))
    assert found == Throttled(f"429 {name}: slow", hint)


def test_what_is_rejected_names_its_field() -> None:
    error = HttpRefused(422, "validation_error", "Invalid `to` field.")
    assert classify_http(error) == Rejected("422 validation_error: Invalid `to` field.")


@given(st.integers(100, 999), st.text(max_size=30), st.none() | st.floats(allow_nan=False))
def test_no_answer_of_the_servers_own_trouble_ends_a_mail(
    status: int, name: str, retry_after: float | None
) -> None:
    found = refused_with(status, name, "detail", retry_after)
    if not 400 <= status < 500:
        assert not isinstance(found, Rejected)
    if isinstance(found, Throttled | Again) and found.hint_seconds is not None:
        assert 0 <= found.hint_seconds <= MAX_HINT_SECONDS
