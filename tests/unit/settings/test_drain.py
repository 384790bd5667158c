"""How long a stop may take, and what is said when nobody knows."""

from __future__ import annotations

import pytest

from campaign_worker.settings.drain import drain_window


def test_railways_number_wins_and_is_quiet_when_both_agree() -> None:
    drain = drain_window(60, 60, on_railway=True)
    assert (drain.window_seconds, drain.stop_budget_seconds, drain.warnings) == (60, 57, ())


@pytest.mark.parametrize(("ours", "railways"), [(60, 30), (30, 60)])
def test_the_smaller_is_used_and_said_when_they_disagree(ours: float, railways: float) -> None:
    drain = drain_window(ours, railways, on_railway=True)
    assert drain.window_seconds == 30
    assert "disagree: 30 s is used" in drain.warnings[0]


def test_no_window_on_railway_is_said_with_its_mending() -> None:
    drain = drain_window(None, None, on_railway=True)
    assert drain.window_seconds == 0
    assert drain.stop_budget_seconds == 1
    assert "RAILWAY_DEPLOYMENT_DRAINING_SECONDS=60" in drain.warnings[0]


def test_only_the_images_number_on_railway_is_doubted() -> None:
    drain = drain_window(60, None, on_railway=True)
    assert drain.window_seconds == 60
    assert "Railway grants 0 s" in drain.warnings[0]


def test_elsewhere_the_default_is_thirty_seconds_without_a_word() -> None:
    drain = drain_window(None, None, on_railway=False)
    assert (drain.window_seconds, drain.warnings) == (30, ())


@pytest.mark.parametrize(
    ("window", "budget"), [(60, 57), (15, 12), (10, 8), (5, 4), (1, 1), (0, 1), (600, 597)]
)
def test_the_margin_is_three_seconds_or_less(window: float, budget: float) -> None:
    assert drain_window(window, None, on_railway=False).stop_budget_seconds == budget
