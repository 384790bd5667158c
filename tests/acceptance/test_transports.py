"""Two transports, one of them down: its mails wait and are not tried, the other's go out."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from campaign_worker.embedded.smtp_server import SmtpSink
from tests.acceptance.evidence import flawless
from tests.acceptance.site import Campaign, Site
from tests.support import eventually

MAILS = 60
CONNECTS = 'campaign_worker_smtp_connect_seconds_count{result="connect",transport="bulk"}'


async def test_a_transport_that_is_down_beside_another_is_tried_by_one_probe_only(
    site: Site, own_sink: Callable[..., Awaitable[SmtpSink]]
) -> None:
    bulk = await own_sink()
    await bulk.stop()
    worker = await site.ready("worker", SMTP_URL_BULK=bulk.url, TRANSPORT_PROBE_SECONDS="1")
    waiting, other = await site.campaign(MAILS), await site.campaign(MAILS)
    await goes_by(site, waiting, "bulk")
    await site.add(waiting)
    await worker.says("intake held", away="transport bulk")
    await site.add(other)
    await eventually(lambda: len(site.mails_to(other)) == MAILS, 15)
    assert (await worker.health())["held"] == ["transport bulk"]
    # Everybody looks at it, nobody tries it: only those that were under way at first have.
    over = time.monotonic() + 2.5
    await eventually(lambda: time.monotonic() >= over)
    tried = await worker.metric(CONNECTS)
    assert 1 <= tried < MAILS / 2
    await bulk.start()
    await worker.says("intake open again", back="transport bulk")
    await eventually(lambda: len(bulk.mails) == MAILS, 20)
    assert await site.finished(other) == flawless(MAILS)


async def goes_by(site: Site, campaign: Campaign, transport: str) -> None:
    async with site.postgres() as connection:
        await connection.execute(
            "UPDATE campaign_worker.campaigns SET transport = $2 WHERE id = $1",
            *(campaign.id, transport),
        )
