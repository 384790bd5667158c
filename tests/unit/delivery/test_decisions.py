"""Pure decisions: the guard, the delay of a retry, the transport of a campaign."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaign_worker.delivery.guard import (
    AppFacts,
    Go,
    GuardFacts,
    Skip,
    Wait,
    decide,
    paused_recheck_seconds,
)
from campaign_worker.delivery.requests import CampaignRequest
from campaign_worker.delivery.retry import Attempt, RetryPolicy, delay_seconds, is_last
from campaign_worker.delivery.routing import Routing
from campaign_worker.errors import SettingsError

GUARDS: list[tuple[dict[str, Any], Any]] = [
    ({}, Go()),
    ({"campaign_status": None}, Go()),
    ({"campaign_status": "completed"}, Go()),
    ({"campaign_status": "paused"}, Wait("campaign_paused", 600.0)),
    ({"campaign_status": "draft"}, Wait("campaign_draft", 600.0)),
    ({"campaign_status": "cancelled", "unsubscribed": True}, Skip("campaign_cancelled")),
    ({"campaign_status": "paused", "unsubscribed": True}, Skip("unsubscribed")),
    ({"campaign_status": "paused", "suppressed": "manual"}, Skip("suppressed_manual")),
    ({"replied": True}, Go()),
    ({"step": 1, "previous_state": "sent"}, Go()),
    ({"step": 1, "previous_state": "sent", "replied": True}, Skip("replied")),
    ({"step": 1, "previous_state": "sent", "replied": True, "stop_on_reply": False}, Go()),
    ({"step": 1, "previous_state": None}, Wait("previous_step_open", 60.0)),
    ({"step": 1, "previous_state": "scheduled"}, Wait("previous_step_open", 60.0)),
    ({"step": 1, "previous_state": "sending"}, Wait("previous_step_open", 60.0)),
    ({"step": 1, "previous_state": "in_doubt"}, Wait("previous_step_open", 60.0)),
    ({"step": 1, "previous_state": "failed"}, Skip("previous_step_not_sent")),
    ({"step": 1, "previous_state": "skipped"}, Skip("previous_step_not_sent")),
    ({"step": 2, "previous_state": "absent"}, Skip("previous_step_not_sent")),
    ({"step": 1, "previous_state": "sent", "step_known": False}, Skip("step_removed")),
    ({"step": 1, "campaign_status": "paused", "replied": True}, Wait("campaign_paused", 600.0)),
]


@pytest.mark.parametrize(("facts", "decision"), GUARDS)
def test_the_first_rule_that_applies_decides(facts: dict[str, Any], decision: Any) -> None:
    assert decide(GuardFacts(**({"campaign_status": "running"} | facts))) == decision


def test_the_looks_at_a_paused_campaign_come_ever_more_rarely() -> None:
    at, looks = 0.0, []
    for _ in range(9):
        looks.append(paused_recheck_seconds(at, spread=0.5))
        at += looks[-1]
    assert looks[:5] == [600.0, 600.0, 1200.0, 2400.0, 4800.0]
    assert looks[-2:] == [21_600.0, 21_600.0]


@given(st.floats(0, 1e9), st.floats(0, 1))
def test_the_looks_at_a_paused_campaign_do_not_come_all_at_once(waited: float, at: float) -> None:
    middle = paused_recheck_seconds(waited, 0.5)
    assert 450.0 <= middle * 0.75 <= paused_recheck_seconds(waited, at) <= middle * 1.25


@pytest.mark.parametrize(
    ("floor", "backoff", "hint", "expected"),
    [
        (60.0, 0.1, None, 60.0),
        (60.0, 90.0, None, 90.0),
        (60.0, 90.0, 300.0, 300.0),
        (0.0, 0.1, None, 0.1),
        (0.0, 0.0, None, 0.0),
        (60.0, math.inf, None, 31_622_400.0),
        (60.0, 1e300, 1.0, 31_622_400.0),
        (60.0, math.nan, None, 60.0),
        (60.0, -5.0, None, 60.0),
    ],
)
def test_the_delay_is_the_largest_wish_within_reason(
    floor: float, backoff: float, hint: float | None, expected: float
) -> None:
    assert delay_seconds(RetryPolicy(floor), Attempt(3, backoff), hint) == expected


@given(st.floats(0, 1e6), st.floats(), st.none() | st.floats(0, 21_600))
def test_a_delay_is_always_a_number_that_postgres_and_redis_can_hold(
    floor: float, backoff: float, hint: float | None
) -> None:
    delay = delay_seconds(RetryPolicy(floor), Attempt(3, backoff), hint)
    assert 0 <= delay <= 31_622_400
    assert round(delay * 1000) >= 0


@pytest.mark.parametrize(("limit", "spent", "last"), [(1, 0, True), (3, 1, False), (3, 2, True)])
def test_the_row_counts_attempts(limit: int, spent: int, last: bool) -> None:
    assert is_last(Attempt(limit, 0.0), spent) is last


class Lookups:
    """Transport names of campaigns, and how often somebody asked."""

    def __init__(self, names: dict[int, str]) -> None:
        self.names = names
        self.asked = 0

    async def __call__(self, ids: Sequence[int]) -> dict[int, str]:
        self.asked += 1
        return {one: self.names[one] for one in ids if one in self.names}


async def test_a_campaigns_transport_is_asked_for_once_in_a_while() -> None:
    lookups = Lookups({1: "second"})
    default, second = object(), object()
    routing = Routing({"default": default, "second": second}, lookups)  # type: ignore[dict-item]
    for _ in range(3):
        assert await routing.choose(CampaignRequest(1, 1)) is second
    assert lookups.asked == 1


async def test_a_campaign_that_is_committed_a_moment_later_goes_out_by_its_own_transport() -> None:
    lookups = Lookups({})
    default, second = object(), object()
    routing = Routing({"default": default, "second": second}, lookups)  # type: ignore[dict-item]
    assert await routing.choose(CampaignRequest(1, 1)) is default
    lookups.names[1] = "second"
    assert await routing.choose(CampaignRequest(1, 1)) is second


async def test_a_transport_that_nobody_set_up_is_named() -> None:
    routing = Routing({}, Lookups({1: "bulk"}))
    with pytest.raises(SettingsError) as caught:
        await routing.choose(CampaignRequest(1, 1))
    assert caught.value.setting == "SMTP_URL_BULK"


@pytest.mark.parametrize(
    ("app", "step", "previous", "expected"),
    [
        (AppFacts(), 0, None, Go()),
        (AppFacts(gone=True), 0, None, Skip("gone_from_the_app")),
        (AppFacts(cancelled=True), 0, None, Skip("cancelled_by_the_app")),
        (AppFacts(sent_step=0, cancelled=True), 0, None, Skip("already_sent")),
        (AppFacts(sent_step=2), 1, "sent", Skip("already_sent")),
        (AppFacts(sent_step=0), 1, None, Go()),
        (AppFacts(sent_step=0), 1, "skipped", Go()),
        (AppFacts(sent_step=0), 1, "sending", Wait("previous_step_open", 60.0)),
        (AppFacts(), 1, None, Wait("previous_step_open", 60.0)),
    ],
)
def test_what_an_app_says_of_its_mail_is_a_guard(
    app: AppFacts, step: int, previous: str | None, expected: object
) -> None:
    facts = GuardFacts("running", step=step, previous_state=previous)
    assert decide(app.told(facts)) == expected


def test_what_has_been_sent_is_called_so_whatever_else_is_true() -> None:
    facts = GuardFacts("cancelled", unsubscribed=True, suppressed="complaint")
    assert decide(AppFacts(sent_step=0).told(facts)) == Skip("already_sent")
