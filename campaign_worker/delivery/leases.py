"""Keeps the leases of all running claims alive, and says when one is no longer ours.

A lease is believed only for as long as Postgres last confirmed it, measured from before the
statement was sent and less a margin: a process that was frozen or cut off stops itself before the
row is given to somebody else.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator

import structlog

from campaign_worker.delivery.claims import Claimed
from campaign_worker.delivery.ports import Ledger
from campaign_worker.errors import DatabaseAway
from shutdown import StartStop, end

log = structlog.get_logger(__name__)

_MARGIN_SHARE = 0.1
"""Share of the lease that is kept back for clock rates and the way to the server."""


class Lease:
    """One claim's lease; `good` is asked before each step that others can see."""

    def __init__(self, claimed: Claimed, lease_seconds: float) -> None:
        self.id = claimed.id
        self.token = claimed.token
        self._believed_seconds = lease_seconds * (1 - _MARGIN_SHARE)
        self._confirmed_at = claimed.confirmed_at
        self._lost = False

    @property
    def good(self) -> bool:
        """Whether the row is certainly still ours."""
        return not self._lost and time.monotonic() < self._confirmed_at + self._believed_seconds

    def confirm(self, at: float) -> None:
        """Note that Postgres confirmed it; `at` is time.monotonic() from before the asking."""
        self._confirmed_at = max(self._confirmed_at, at)

    def lose(self) -> None:
        """Note that the row belongs to somebody else."""
        self._lost = True


class Leases(StartStop):
    """Renews every lease at a third of its length, from start to stop."""

    def __init__(self, ledger: Ledger, *, lease_seconds: float) -> None:
        super().__init__()
        self._ledger = ledger
        self._lease_seconds = lease_seconds
        self._held: dict[int, Lease] = {}
        self._task: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def hold(self, claimed: Claimed) -> Iterator[Lease]:
        """Renew this claim's lease for as long as the body runs."""
        lease = Lease(claimed, self._lease_seconds)
        before = self._held.get(claimed.id)
        if before is not None:
            # The row was given to this claim, so an earlier one of this process has lost it.
            before.lose()
        self._held[claimed.id] = lease
        try:
            yield lease
        finally:
            if self._held.get(claimed.id) is lease:
                del self._held[claimed.id]

    async def _start(self) -> None:
        self._task = asyncio.create_task(self._renew_for_ever(), name="lease renewal")

    async def _stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            await end(task)

    async def _renew_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._lease_seconds / 3)
            try:
                await self.renew()
            except DatabaseAway as error:
                log.warning("leases not renewed", held=len(self._held), error=str(error))
            except Exception:
                # Whatever it is, the next renewal must come: mails in flight hang on it.
                log.exception("leases not renewed", held=len(self._held))

    async def renew(self) -> None:
        """Renew all leases that are held now."""
        held = dict(self._held)
        if not held:
            return
        asked_at = time.monotonic()
        ours = await self._ledger.renew([(lease.id, lease.token) for lease in held.values()])
        for message_id, lease in held.items():
            if message_id in ours:
                lease.confirm(asked_at)
            else:
                lease.lose()
