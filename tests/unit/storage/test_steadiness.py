"""When an unsteady Postgres may be believed again: after a lease, and not never."""

from __future__ import annotations

import itertools

import pytest

from campaign_worker.storage.steadiness import Steadiness

LEASE = 60.0


def after(*outages: tuple[float, float]) -> Steadiness:
    """Make one that has seen these outages, each from one moment to another."""
    steadiness = Steadiness(LEASE)
    for began_at, over_at in outages:
        steadiness.failed(began_at)
        steadiness.answered(over_at)
    return steadiness


def test_without_any_outage_rows_may_be_taken_at_once() -> None:
    assert Steadiness(LEASE).lasts(0.0)


def test_after_an_outage_one_full_lease_passes_first() -> None:
    steadiness = after((1000.0, 1030.0))
    assert not steadiness.lasts(1089.0)
    assert steadiness.lasts(1090.0)


def test_while_postgres_is_away_nothing_is_taken_however_long_that_is() -> None:
    steadiness = after()
    steadiness.failed(1000.0)
    steadiness.failed(1900.0)
    assert not steadiness.lasts(9000.0)


def test_an_outage_that_costs_nobody_a_lease_postpones_nothing() -> None:
    assert after((1000.0, 1019.0)).lasts(1019.0)
    assert not after((1000.0, 1020.0)).lasts(1020.0)


@pytest.mark.parametrize("every_seconds", [0.5, 5.0, 45.0, 59.0])
@pytest.mark.parametrize("away_seconds", [0.1, 5.0, 25.0, 40.0])
def test_outages_that_come_again_and_again_postpone_for_five_leases_at_most(
    every_seconds: float, away_seconds: float
) -> None:
    steadiness, now = Steadiness(LEASE), 0.0
    for _ in itertools.count():
        steadiness.failed(now)
        now += away_seconds
        steadiness.answered(now)
        now += every_seconds
        if steadiness.lasts(now):
            break
    assert now <= 5 * LEASE + 2 * (every_seconds + away_seconds)


def test_an_outage_of_a_whole_lease_is_one_of_its_own_whatever_came_before() -> None:
    flaps = [(at, at + 25.0) for at in range(1000, 1280, 40)]
    steadiness = after(*flaps, (1290.0, 1400.0))
    assert not steadiness.lasts(1459.0)
    assert steadiness.lasts(1460.0)
