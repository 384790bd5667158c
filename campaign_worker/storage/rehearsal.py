"""Claims that are rolled back: what a worker would do with these mails now. Nothing of it stays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from asyncpg.pool import PoolConnectionProxy

from campaign_worker.contract.asked import AppMail
from campaign_worker.contract.model import Write
from campaign_worker.contract.reading import Source
from campaign_worker.delivery.claims import Claim, Missing
from campaign_worker.delivery.model import Template
from campaign_worker.delivery.requests import CampaignRequest, InlineRequest, JobRef, Request
from campaign_worker.errors import ContractBroken
from campaign_worker.storage.claim import Claimer
from campaign_worker.storage.claim_items import ClaimItem
from campaign_worker.storage.contract_tables import AppTables
from campaign_worker.storage.database import Database
from metrics import Fanout

Wanted = Request | AppMail

_JOB = JobRef("", "rehearsal")
_TOKEN = "rehearsal"  # noqa: S105 - nobody owns what is rolled back


class Rehearsal:
    """Rehearses claims, of an app's mails by its contract as well.

    `normalize` and `static_links` as of the claims.
    """

    def __init__(
        self,
        database: Database,
        source: Source | None,
        *,
        normalize: Callable[[str], str],
        static_links: Callable[[Template], Sequence[str]] | None,
    ) -> None:
        self._database = database
        self._app = None if source is None else _reading_only(source, database, normalize)
        self._claimer = Claimer(
            database,
            lease_seconds=60.0,
            normalize=normalize,
            static_links=static_links,
            app=self._app,
        )

    async def claims(self, wanted: Sequence[Wanted]) -> list[Claim]:
        """Say what a claim of each would be. Raises DatabaseAway, ContractBroken."""
        async with self._database.transaction() as connection:
            look = connection.transaction()
            await look.start()
            try:
                return await self._claims(connection, wanted)
            finally:
                if not connection.is_closed():
                    await look.rollback()

    async def _claims(
        self, connection: PoolConnectionProxy, wanted: Sequence[Wanted]
    ) -> list[Claim]:
        requests = await self._requests(connection, wanted)
        distinct: dict[Request | str, Request] = {
            _identity(one): one for one in requests if not isinstance(one, Missing)
        }
        items = [ClaimItem(one, _TOKEN, _JOB, alone=True) for one in distinct.values()]
        claims = await self._claimer.rehearse(connection, items) if items else []
        answers: Mapping[Request | str, Claim] = dict(zip(distinct, claims, strict=True))
        return [one if isinstance(one, Missing) else answers[_identity(one)] for one in requests]

    async def _requests(
        self, connection: PoolConnectionProxy, wanted: Sequence[Wanted]
    ) -> list[Request | Missing]:
        mails = [one for one in wanted if isinstance(one, AppMail)]
        if self._app is None or not mails:
            return [one for one in wanted if not isinstance(one, AppMail)]
        found = await self._app.importing.run(connection, mails)
        return [found.request(one) if isinstance(one, AppMail) else one for one in wanted]


def _reading_only(source: Source, database: Database, normalize: Callable[[str], str]) -> AppTables:
    """Give the app's tables without a way to write to them, not even to take it back."""
    silent = replace(source, contract=source.contract.model_copy(update={"write": Write()}))
    return AppTables(
        database, silent, normalize=normalize, listener=Fanout(), on_broken=_nobody_writes
    )


def _nobody_writes(error: ContractBroken) -> None:
    raise error


def _identity(request: Request) -> CampaignRequest | str:
    return request.key if isinstance(request, InlineRequest) else request
