"""What docs/contract.md says that a contract can do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from campaign_worker.contract.asked import AppMail
from campaign_worker.delivery.claims import CampaignContent, Claimed
from campaign_worker.delivery.requests import CampaignRequest
from campaign_worker.storage.contract_probe import ContractProbe
from tests.integration.contract.kit import Place

if TYPE_CHECKING:
    from campaign_worker.storage.database import Database
    from tests.integration.contract.apps import Drizzle

ADDRESSES = '''
version = 1
[queues.mails]
[jobs.send]
kind = "send"
campaign = "campaign"
recipients = "people"
recipient = "email"
[ids]
campaign = "bigint"
recipient = "text"
[load.campaigns]
query = """
SELECT id, state AS status, subject_line AS subject, body_text AS text
FROM mail_campaigns WHERE id = ANY(:ids)
"""
[load.campaigns.status]
running = ["active"]
[load.recipients]
query = "SELECT w.id, w.id AS email, 'friend' AS name FROM unnest(:ids) AS w (id)"
[write.campaigns]
query = """
UPDATE mail_campaigns c
SET delivered = w.sent, state = CASE WHEN w.sent >= 2 THEN 'done' ELSE c.state END
FROM unnest(:ids, :sent) AS w (id, sent) WHERE c.id = w.id
"""
'''


async def test_addresses_need_no_table_and_the_app_completes_its_campaign(
    drizzle: Drizzle, database: Database
) -> None:
    place = Place(drizzle, database, contract=ADDRESSES)
    await ContractProbe(database, place.source).verify()
    campaign = await drizzle.campaign(0)
    for address in ("a@example.net", "b@example.net"):
        request = await place.tables.resolve(AppMail(campaign.id, address))
        assert isinstance(request, CampaignRequest)
        claim = await place.send(request)
        assert isinstance(claim, Claimed)
        assert isinstance(claim.content, CampaignContent)
        assert (claim.content.recipient_email, claim.content.recipient_name) == (address, "friend")
    assert await place.raw.fetchval("SELECT state FROM mail_campaigns") == "done"
    assert await drizzle.counts(campaign) == (2, 0)
