"""A ledger over an app's tables, by its contract."""

from __future__ import annotations

import uuid
from typing import Any

from campaign_worker.contract import reading
from campaign_worker.contract.asked import AppMail
from campaign_worker.delivery.claims import Claim, Claimed
from campaign_worker.delivery.requests import CampaignRequest, JobRef, Request
from campaign_worker.delivery.settlements import Ending, MarkSent, Settlement
from campaign_worker.errors import ContractBroken
from campaign_worker.mail.compose import normalize
from campaign_worker.storage.contract_tables import AppTables
from campaign_worker.storage.database import Database
from campaign_worker.storage.ledger import PostgresLedger
from metrics import Fanout
from tests.integration.contract.apps import App, AppCampaign

JOB = JobRef("campaign", "job-1")


class Place:
    """An app, its contract, and a ledger that works by it. `broken` is what was complained of."""

    def __init__(self, app: App, database: Database, *, contract: str | None = None) -> None:
        self.app: Any = app
        self.raw = app.raw
        self.database = database
        self.broken: list[ContractBroken] = []
        self.source = reading.read(contract or app.contract)
        self.tables = AppTables(
            database,
            self.source,
            normalize=normalize,
            listener=Fanout(),
            on_broken=self.broken.append,
        )
        self.ledger = PostgresLedger(
            database, lease_seconds=30, normalize=normalize, listener=Fanout(), app=self.tables
        )

    async def request(
        self, campaign: AppCampaign, index: int = 0, step: int = 0
    ) -> CampaignRequest:
        mail = AppMail(campaign.id, campaign.recipients[index], step)
        found = await self.tables.resolve(mail)
        assert isinstance(found, CampaignRequest), found
        return found

    async def claim(self, request: Request) -> Claim:
        return await self.ledger.claim(request, str(uuid.uuid4()), JOB)

    async def end(self, claim: Claim, ending: Ending | None = None) -> None:
        assert isinstance(claim, Claimed), claim
        message_id = f"<{claim.message_key}@example.org>"
        assert await self.ledger.mark(claim.id, claim.token, message_id)
        ending = ending or MarkSent(message_id, "250 ok")
        await self.ledger.settle(Settlement(claim.id, claim.token, ending))

    async def send(self, request: Request) -> Claim:
        claim = await self.claim(request)
        await self.end(claim)
        return claim

    async def ours(self, query: str, *arguments: object) -> Any:
        return await self.raw.fetchval(query.replace("$.", "campaign_worker."), *arguments)
