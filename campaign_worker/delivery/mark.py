"""The durable mark: after it the outcome of a mail is unknown until the server's answer.

Decides whether a mail may still go out, at the last moment at which that can be decided.
"""

from __future__ import annotations

import time

from campaign_worker.delivery.claims import Claimed
from campaign_worker.delivery.leases import Lease
from campaign_worker.delivery.ports import Ledger, Signal
from campaign_worker.delivery.replay import Replayable


class NothingBegun(Exception):
    """Raised before the mark: the row can be released as if nothing had happened."""


class Mark:
    """Awaited right before the first write that can contain the final dot."""

    def __init__(
        self,
        ledger: Ledger,
        signal: Signal,
        claim: Claimed,
        lease: Lease,
        message_id: str,
        replayable: Replayable | None,
    ) -> None:
        self._ledger = ledger
        self._signal = signal
        self._claim = claim
        self._lease = lease
        self._message_id = message_id
        self._replayable = replayable
        self.committed = False

    async def __call__(self) -> None:
        """Commit the mark. Raises NothingBegun when the mail must not go out any more."""
        if not may_go(self._signal, self._lease):
            raise NothingBegun
        asked_at = time.monotonic()
        claim = self._claim
        marked = await self._ledger.mark(claim.id, claim.token, self._message_id, self._replayable)
        if not marked:
            self._lease.lose()
            raise NothingBegun
        self._lease.confirm(asked_at)
        # A stop or a freeze may have come during the commit.
        if not may_go(self._signal, self._lease):
            raise NothingBegun
        self.committed = True


def may_go(signal: Signal, lease: Lease) -> bool:
    """Whether a mail may go out: nobody wants a stop, and the row is still ours."""
    return not signal.aborted and lease.good
