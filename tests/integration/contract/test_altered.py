"""The app's migrations change its tables under us: what still fits goes on at once."""

from __future__ import annotations

import pytest

from campaign_worker.delivery.claims import Claimed
from tests.integration.contract.kit import Place


@pytest.mark.parametrize(
    "change",
    [
        'ALTER TABLE "Recipient" ALTER "firstName" TYPE varchar(100)',
        'ALTER TABLE "Recipient" ADD "note" text',
        "ALTER TYPE \"CampaignStatus\" ADD VALUE 'ARCHIVED'",
        """
        ALTER TABLE "Campaign" ALTER "status" DROP DEFAULT,
            ALTER "status" TYPE text USING "status"::text
        """,
    ],
)
async def test_a_change_that_still_fits_is_not_noticed(prisma_place: Place, change: str) -> None:
    place, campaign = prisma_place, await prisma_place.app.campaign(8)
    requests = [await place.request(campaign, index) for index in range(8)]
    # The driver keeps a plan after some uses.
    for request in requests[:4]:
        await place.send(request)
    await place.raw.execute(change)
    for request in requests[4:]:
        claim = await place.claim(request)
        assert isinstance(claim, Claimed)
        await place.end(claim)
    assert await place.app.statuses(campaign) == {"SENT": 8}
    assert place.broken == []
