"""The clock of events is that of the store, where the machine's is wrong."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from campaign_worker.errors import DatabaseAway
from campaign_worker.tracking.clock import Clock, ClockKeeper
from tests.support import eventually

HOUR = timedelta(hours=1)


def ahead(clock: Clock) -> timedelta:
    """Say how far it is ahead of this machine's, to the second."""
    return timedelta(seconds=round((clock.now() - datetime.now(UTC)).total_seconds()))


@pytest.mark.parametrize("wrong", [HOUR, -HOUR, timedelta(seconds=3)])
def test_a_clock_that_is_wrong_is_corrected_until_it_is_set(wrong: timedelta) -> None:
    clock = Clock()
    clock.correct(wrong)
    assert ahead(clock) == wrong
    clock.correct(timedelta(milliseconds=-300))
    assert ahead(clock) == timedelta()


async def test_a_store_that_is_away_at_first_is_asked_again_soon() -> None:
    clock, answers = Clock(), [DatabaseAway("not yet"), DatabaseAway("not yet")]

    async def ask() -> datetime:
        if answers:
            raise answers.pop()
        return datetime.now(UTC) + HOUR

    keeper = ClockKeeper(clock, ask)
    await keeper.start()
    await eventually(lambda: ahead(clock) == HOUR)
    await keeper.stop()
