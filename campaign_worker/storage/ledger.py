"""The ledger as delivery sees it: claim, mark, renew, settle, batched over all jobs of the moment.

Owns that a claim nobody waits for any more is released again. Decides nothing about a mail.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from campaign_worker.delivery.claims import Claim, Claimed
from campaign_worker.delivery.model import Template
from campaign_worker.delivery.replay import Replayable
from campaign_worker.delivery.requests import JobRef, Request
from campaign_worker.delivery.settlements import MarkReleased, SettleAnswer, Settlement
from campaign_worker.errors import DatabaseAway
from campaign_worker.storage.batcher import Batcher
from campaign_worker.storage.claim import Claimer
from campaign_worker.storage.claim_items import ClaimItem, weight_of
from campaign_worker.storage.contract_tables import AppTables
from campaign_worker.storage.database import Database
from campaign_worker.storage.settle import Settler
from metrics import Listener
from shutdown import Deadline

_Mark = tuple[int, str, str, Replayable | None]


class PostgresLedger:
    """Fulfils delivery's Ledger over one Database. Methods raise DatabaseAway and RowRefused.

    `static_links` gives the URLs of a template that get rows; None where nothing is tracked.
    `app`: the tables of an existing app, by a contract.
    """

    def __init__(
        self,
        database: Database,
        *,
        lease_seconds: float,
        normalize: Callable[[str], str],
        listener: Listener,
        static_links: Callable[[Template], Sequence[str]] | None = None,
        app: AppTables | None = None,
    ) -> None:
        self._database = database
        self._lease_seconds = lease_seconds
        claimer = Claimer(
            database,
            lease_seconds=lease_seconds,
            normalize=normalize,
            static_links=static_links,
            app=app,
        )
        self._claims: Batcher[ClaimItem, Claim] = Batcher(
            "claim", claimer.execute, listener, weight=weight_of
        )
        settler = Settler(database, normalize=normalize, app=app)
        self._settles: Batcher[Settlement, SettleAnswer] = Batcher(
            "settle", settler.execute, listener
        )
        self._marks: Batcher[_Mark, bool] = Batcher(
            "mark", self._mark_batch, listener, weight=_weight_of_mark
        )
        self._orphans: set[asyncio.Task[None]] = set()

    async def claim(
        self, request: Request, token: str, job: JobRef, *, alone: bool = False
    ) -> Claim:
        """Claim the request's row under `token`, or say why not."""
        future = self._claims.submit(ClaimItem(request, token, job, alone))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            # The statement may be on its way: whoever asked is gone, so its claim is given up.
            orphan = asyncio.create_task(self._release_orphan(future))
            self._orphans.add(orphan)
            orphan.add_done_callback(self._orphans.discard)
            raise

    async def mark(
        self, row_id: int, token: str, message_id: str, replayable: Replayable | None = None
    ) -> bool:
        """Commit that sending of this Message-ID begins, and renew the lease.

        `replayable` is kept, if the row has none yet. False: the claim is lost, or the time of a
        repetition is over.
        """
        return await self._marks.submit((row_id, token, message_id, replayable))

    async def renew(self, owned: Sequence[tuple[int, str]]) -> set[int]:
        """Renew leases of (id, token); answer the ids that are still ours."""
        return {row_id for row_id, _ in await self._update_owned("renew_leases", owned)}

    async def settle(self, settlement: Settlement) -> SettleAnswer:
        """Write a row's ending. Repeating it is safe."""
        return await asyncio.shield(self._settles.submit(settlement))

    async def close(self, deadline: Deadline) -> None:
        """Wait for what is under way, within the deadline."""
        for batcher in (self._claims, self._marks, self._settles):
            await _bounded(batcher.idle(), deadline)
        if self._orphans:
            await asyncio.wait(self._orphans, timeout=deadline.remaining())
        await _bounded(self._settles.idle(), deadline)

    async def _release_orphan(self, future: asyncio.Future[Claim]) -> None:
        try:
            claim = await future
            if isinstance(claim, Claimed):
                ending = MarkReleased("interrupted during the claim")
                await self._settles.submit(Settlement(claim.id, claim.token, ending))
        except DatabaseAway:
            # Nothing was begun: the lease runs out and the reconciler schedules the row again.
            return

    async def _mark_batch(self, items: Sequence[_Mark]) -> list[bool]:
        owned = [(row_id, token) for row_id, token, _, _ in items]
        message_ids = [message_id for _, _, message_id, _ in items]
        kept = [replayable for _, _, _, replayable in items]
        mine = await self._update_owned(
            "mark_messages",
            owned,
            message_ids,
            [one and one.transport for one in kept],
            [one and one.request for one in kept],
            [one and one.seconds for one in kept],
        )
        return [one in mine for one in owned]

    async def _update_owned(
        self, statement: str, owned: Sequence[tuple[int, str]], *more: object
    ) -> set[tuple[int, str]]:
        rows = await self._database.fetch(
            statement,
            [row_id for row_id, _ in owned],
            [token for _, token in owned],
            self._lease_seconds,
            *more,
        )
        return {(row["id"], row["token"]) for row in rows}


def _weight_of_mark(mark: _Mark) -> int:
    replayable = mark[3]
    return 0 if replayable is None else len(replayable.request)


async def _bounded(waiting: Awaitable[None], deadline: Deadline) -> None:
    try:
        await deadline.wait_for(waiting)
    except TimeoutError:
        return
