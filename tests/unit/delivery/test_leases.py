"""Leases: believed for as long as Postgres confirmed them, and for nobody else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, cast

from campaign_worker.delivery.claims import Claimed
from campaign_worker.delivery.leases import Leases
from campaign_worker.delivery.ports import Ledger
from campaign_worker.errors import DatabaseAway
from tests.support import eventually


class Renewals:
    """The one method of a ledger that leases need."""

    def __init__(self) -> None:
        self.asked: list[list[tuple[int, str]]] = []
        self.ours: set[int] = set()
        self.errors: list[Exception] = []
        self.asked_at = 0.0

    async def renew(self, owned: Sequence[tuple[int, str]]) -> set[int]:
        self.asked.append(list(owned))
        self.asked_at = time.monotonic()
        if self.errors:
            raise self.errors.pop(0)
        return self.ours


def leases_over(renewals: Renewals, lease_seconds: float = 30.0) -> Leases:
    return Leases(cast("Ledger", renewals), lease_seconds=lease_seconds)


def claim(row: int = 1, owner: str = "t", *, age_seconds: float = 0.0) -> Claimed:
    content: Any = None
    return Claimed(row, owner, 0, "k", 0.0, content, time.monotonic() - age_seconds)


async def test_a_lease_is_believed_a_little_shorter_than_it_is() -> None:
    leases = leases_over(Renewals())
    for age_seconds, good in [(0.0, True), (26.0, True), (27.5, False), (31.0, False)]:
        with leases.hold(claim(age_seconds=age_seconds)) as lease:
            assert lease.good is good


async def test_what_is_held_is_renewed_and_what_is_lost_is_told() -> None:
    renewals = Renewals()
    leases = leases_over(renewals)
    with leases.hold(claim(1, "a", age_seconds=26)) as one, leases.hold(claim(2, "b")) as other:
        renewals.ours = {1}
        await leases.renew()
        assert renewals.asked == [[(1, "a"), (2, "b")]]
        assert (one.good, other.good) == (True, False)
        other.confirm(time.monotonic())
        assert not other.good, "what is lost stays lost"
    await leases.renew()
    assert len(renewals.asked) == 1, "nobody is asked about nothing"


async def test_a_renewal_is_believed_from_before_it_was_asked_for() -> None:
    renewals = Renewals()
    renewals.ours = {1}
    leases = leases_over(renewals)
    with leases.hold(claim(age_seconds=26)) as lease:
        await leases.renew()
        assert lease._confirmed_at <= renewals.asked_at
        # The answer to an earlier question may come later than that to the mark.
        lease.confirm(time.monotonic() - 29)
        assert lease.good


async def test_a_row_that_this_process_claims_again_is_the_later_claims() -> None:
    renewals = Renewals()
    leases = leases_over(renewals)
    with leases.hold(claim(1, "old")) as old:
        held = leases.hold(claim(1, "new"))
        new = held.__enter__()
        assert (old.good, new.good) == (False, True)
    # The end of the old run takes nothing from the new one.
    await leases.renew()
    assert renewals.asked == [[(1, "new")]]
    held.__exit__(None, None, None)


async def test_renewing_goes_on_whatever_happens() -> None:
    renewals = Renewals()
    renewals.ours = {1}
    renewals.errors = [DatabaseAway("gone"), ValueError("nobody foresaw this"), DatabaseAway("x")]
    leases = leases_over(renewals, lease_seconds=0.3)
    await leases.start()
    with leases.hold(claim()) as lease:
        await eventually(lambda: len(renewals.asked) >= 5)
        assert lease.good
    await leases.stop()
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "lease renewal"]
