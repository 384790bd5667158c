"""`campaign-worker shadow` says what a worker would do, and leaves everything as it is."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from campaign_worker.queue.producer import Producer
from tests.acceptance.site import Site
from tests.integration.contract.apps import Prisma


@pytest.fixture
async def raw(site: Site) -> AsyncIterator[asyncpg.Connection[Any]]:
    """Return a connection that plays the app."""
    async with site.postgres() as connection:
        yield connection


@pytest.fixture
async def app(site: Site, raw: asyncpg.Connection[Any], tmp_path: Path) -> Prisma:
    """Return an app whose contract is in use."""
    app = Prisma(raw)
    await app.create()
    file = tmp_path / "contract.toml"
    file.write_text(app.contract)
    site.env["CONTRACT"] = str(file)
    return app


async def add(site: Site, name: str, *data: Any, **opts: Any) -> None:
    async with site.redis() as client:
        producer = Producer(client, "campaign", site.prefix)
        for one in data:
            await producer.add(name, one, **opts)


async def test_every_outcome_is_told_and_nothing_is_changed(site: Site, app: Prisma) -> None:
    campaign = await app.campaign(6)
    paused = await app.campaign(2, status="PAUSED")
    broken = await app.campaign(1, subject="{{ nothing.like.it }}")
    await app.raw.execute(
        'UPDATE "Recipient" SET "unsubscribedAt" = now() WHERE "email" = $1', campaign.addresses[0]
    )
    await app.raw.execute(
        'UPDATE "Recipient" SET "status" = \'SENT\' WHERE "email" = $1', campaign.addresses[1]
    )
    await add(site, "send-email", *(app.data(campaign, index) for index in range(3)))
    batch = {
        "campaignId": campaign.id,
        "contacts": [{"id": one} for one in campaign.recipients[3:]],
    }
    await add(site, "send-batch", batch, delay_ms=60_000)
    await add(site, "send-email", app.data(paused, 0), {"campaignId": 1}, app.data(broken, 0))
    await add(site, "start-campaign", {"campaignId": campaign.id})
    await add(site, "somebody-elses", {})
    before = await everything(site, app)
    result = await site.cli("shadow", "--json")
    assert result.code == 1
    report = json.loads(result.stdout)
    assert (report["jobs"], report["mails"]) == (9, 8)
    outcomes = report["outcomes"]
    assert outcomes.pop("fail: campaignId: must be a UUID, not a number") == 1
    (render,) = [one for one in outcomes if one.startswith("fail: subject")]
    assert outcomes.pop(render) == 1
    assert outcomes == {
        "send": 4,
        "skip: unsubscribed": 1,
        "skip: already_sent": 1,
        "wait: campaign_paused": 1,
        "launch": 1,
        "park": 1,
    }
    assert len(report["examples"]["skip: unsubscribed"]) == 1
    assert "@" not in result.stdout
    assert await everything(site, app) == before
    assert site.sink.mails == []


async def test_our_own_tables_are_looked_at_in_the_same_way(site: Site) -> None:
    campaign = await site.campaign(3)
    await site.add(campaign)
    result = await site.cli("shadow")
    assert (result.code, result.stderr.strip()) == (0, "")
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines == ["3 jobs, 3 mails; nothing was sent", "3 send"]
    cut = (await site.cli("shadow", "--limit", "2")).stdout
    assert cut.startswith("2 jobs, 2 mails; nothing was sent; the first 2 of each queue, --limit")
    assert await site.job_counts() | {"waiting": 3} == await site.job_counts()


async def everything(site: Site, app: Prisma) -> dict[str, Any]:
    """Give all rows of the app and of ours, and the queue."""
    tables = await app.raw.fetch(
        "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables"
        " WHERE schemaname IN ('public', 'campaign_worker')"
    )
    rows = {
        table["name"]: [str(row) for row in await app.raw.fetch(f"TABLE {table['name']}")]
        for table in tables
    }
    return {**rows, "jobs": await site.job_counts()}
