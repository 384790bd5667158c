"""A worker sends through Resend, and Resend reports back: the bounced are written to no more."""

from __future__ import annotations

import io
import json
import time
from typing import Any

import aiohttp
import pytest

from tests.acceptance.process import WorkerProcess
from tests.acceptance.site import Site, SiteMaker
from tests.fixtures.resend import API_KEY, ResendApi
from tests.fixtures.webhooks import (
    RESEND_BOUNCED,
    RESEND_COMPLAINED,
    SVIX_SECRET,
    changed,
    svix_headers,
)
from tests.support import eventually

RECIPIENTS = 3


@pytest.fixture
def site(make_site: SiteMaker, resend_api: ResendApi) -> Site:
    env = {"SMTP_URL": resend_api.url, "RESEND_WEBHOOK_SECRET": SVIX_SECRET}
    return make_site(secrets=(API_KEY, SVIX_SECRET), env=env)


async def report(worker: WorkerProcess, event: dict[str, Any], event_id: str) -> tuple[int, str]:
    """Deliver an event as Svix does; status and result."""
    body = json.dumps(event).encode()
    headers = svix_headers(body, at=time.time(), event_id=event_id)
    url = f"http://127.0.0.1:{worker.port}/webhooks/resend"
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=io.BytesIO(body), headers=headers) as response,
    ):
        return response.status, (await response.json())["result"]


async def test_who_bounced_or_complained_gets_no_follow_up(
    site: Site, resend_api: ResendApi
) -> None:
    campaign = await site.campaign(RECIPIENTS, follow_up_seconds=3600)
    worker = await site.ready("worker")
    await site.add(campaign)

    async def first_mails_sent() -> bool:
        return await value(site, campaign.id, "sent_count") == RECIPIENTS

    await eventually(first_mails_sent, 20)
    # As the provider names its mails; nothing else tells which these were.
    dead, angry = resend_api.mails[0], resend_api.mails[1]
    bounced = changed(RESEND_BOUNCED, data__email_id=dead["id"], data__to=[])
    complained = changed(RESEND_COMPLAINED, data__email_id=angry["id"], data__to=[])
    assert await report(worker, bounced, "msg_1") == (200, "applied")
    assert await report(worker, complained, "msg_2") == (200, "applied")
    assert await report(worker, bounced, "msg_1") == (200, "known")
    assert await report(worker, bounced | {"type": "email.sent"}, "msg_3") == (200, "ignored")

    async with site.postgres() as connection:
        suppressed = await connection.fetch(
            "SELECT address, reason FROM campaign_worker.suppressions ORDER BY reason"
        )
        follow_ups = await connection.fetch(
            "SELECT state, reason FROM campaign_worker.messages WHERE step = 1 ORDER BY reason"
        )
    assert [tuple(row) for row in suppressed] == [
        (angry["to"][0], "complaint"),
        (dead["to"][0], "hard_bounce"),
    ]
    assert [tuple(row) for row in follow_ups] == [
        ("skipped", "suppressed_complaint"),
        ("skipped", "suppressed_hard_bounce"),
        ("scheduled", None),
    ]
    for column in ("bounced_count", "complained_count"):
        assert await value(site, campaign.id, column) == 1
    sample = 'campaign_worker_webhooks_total{provider="resend",result="applied"}'
    assert await worker.metric(sample) == 2


async def value(site: Site, campaign: int, column: str) -> int:
    """Read one count of a campaign."""
    async with site.postgres() as connection:
        query = f"SELECT {column} FROM campaign_worker.campaign_counts WHERE campaign_id = $1"
        return int(await connection.fetchval(query, campaign))
