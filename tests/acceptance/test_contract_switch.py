"""The app's own Node workers and ours on one queue: beside each other, over, and back."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import smtplib
from collections.abc import AsyncIterator, Callable
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.acceptance.site import Site
from tests.acceptance.test_contract import Office
from tests.fixtures.node import NodeBullMQ, NodeProcess, connection_of
from tests.integration.contract.apps import AppCampaign, Prisma
from tests.support import eventually

pytestmark = pytest.mark.node

MAILS = 120

WORKER = """
const { Worker } = require("bullmq");
const readline = require("node:readline");
const { connection, prefix } = JSON.parse(process.env.INPUT);
const say = (value) => process.stdout.write(`${JSON.stringify(value)}\\n`);
const waiting = new Map();
const worker = new Worker("campaign", (job) => new Promise((resolve) => {
  waiting.set(job.id, resolve);
  say({ id: job.id, data: job.data });
}), { connection, prefix, concurrency: 4 });
readline.createInterface({ input: process.stdin }).on("line", async (line) => {
  const { id, stop } = JSON.parse(line);
  if (id) { waiting.get(id)({ ok: true }); waiting.delete(id); return; }
  if (stop) { await worker.close(); process.exit(0); }
});
worker.waitUntilReady().then(() => say({ ready: true }));
"""


class NodeApp:
    """The app's own worker: BullMQ's loop is Node's, its few lines about a mail are played here.

    As such apps do it: look at the status, send, write the status, count.
    """

    def __init__(self, office: Office, process: NodeProcess, raw: asyncpg.Connection[Any]) -> None:
        self.sent = 0
        self._office = office
        self._process = process
        self._raw = raw
        self._task = asyncio.create_task(self._serve())

    async def stop(self) -> None:
        """Let it finish what it has, and end."""
        await self._process.write_line({"stop": True})
        await self._task

    async def _serve(self) -> None:
        async for line in self._process.lines():
            if "id" in line:
                await self._send(line["data"])
                await self._process.write_line({"id": line["id"]})

    async def _send(self, data: dict[str, Any]) -> None:
        contact = data["contact"]
        status = await self._raw.fetchval(
            'SELECT "status"::text FROM "Recipient" WHERE "id" = $1::text::uuid', contact["id"]
        )
        if status == "SENT":
            return
        await asyncio.to_thread(self._post, contact["email"])
        self.sent += 1
        await self._raw.execute(
            'UPDATE "Recipient" SET "status" = \'SENT\' WHERE "id" = $1::text::uuid', contact["id"]
        )
        await self._raw.execute(
            'UPDATE "Campaign" SET "sentCount" = "sentCount" + 1 WHERE "id" = $1::text::uuid',
            data["campaignId"],
        )

    def _post(self, address: str) -> None:
        mail = EmailMessage()
        mail["From"], mail["To"], mail["Subject"] = "app@example.org", address, "by Node"
        mail.set_content("text")
        host, port = self._office.site.sink.url.removeprefix("smtp://").split(":")
        with smtplib.SMTP(host, int(port)) as smtp:
            smtp.send_message(mail)


@pytest.fixture
async def office(site: Site, tmp_path: Path) -> AsyncIterator[Office]:
    """Return the office of an app of quoted camelCase tables."""
    async with site.postgres() as raw:
        app = Prisma(raw)
        await app.create()
        yield Office(site, app, "campaign", tmp_path)


@contextlib.asynccontextmanager
async def node_worker(office: Office, bullmq: NodeBullMQ) -> AsyncIterator[NodeApp]:
    given = {"connection": connection_of(office.site.redis_url), "prefix": office.site.prefix}
    async with (
        office.site.postgres() as raw,
        await bullmq.start(WORKER, given) as process,
    ):
        assert await process.next_line() == {"ready": True}
        node = NodeApp(office, process, raw)
        yield node
        await node.stop()


async def sent_at_least(office: Office, campaign: AppCampaign, count: int) -> None:
    await eventually(lambda: len(office.sent_to(campaign)) >= count, 20)


async def flawless(office: Office, campaign: AppCampaign) -> None:
    """Each address got one mail, and the app's own tables say so."""
    await office.completed(MAILS, 30)
    assert office.sent_to(campaign) == sorted(campaign.addresses)
    assert await office.app.statuses(campaign) == {"SENT": MAILS}
    assert await office.app.counts(campaign) == (MAILS, 0)


async def test_a_node_worker_and_ours_share_a_campaign(office: Office, bullmq: NodeBullMQ) -> None:
    campaign = await office.app.campaign(MAILS)
    async with node_worker(office, bullmq) as node:
        await office.site.ready("ours", SEND_RATE_PER_SECOND="60")
        await office.add("send-email", [office.app.data(campaign, one) for one in range(MAILS)])
        await flawless(office, campaign)
    assert 0 < node.sent < MAILS
    ours = await office.app.raw.fetchval(
        "SELECT count(*) FROM campaign_worker.messages WHERE state = 'sent'"
    )
    assert ours == MAILS - node.sent


async def test_from_node_to_ours_and_back_in_the_middle_of_a_campaign(
    office: Office, node_bullmq: Callable[[int], NodeBullMQ]
) -> None:
    bullmq, campaign = node_bullmq(5), await office.app.campaign(MAILS)
    await office.add("send-email", [office.app.data(campaign, one) for one in range(MAILS)])
    async with node_worker(office, bullmq) as first:
        await sent_at_least(office, campaign, 20)
    assert first.sent >= 20
    ours = await office.site.ready("ours", SEND_RATE_PER_SECOND="50")
    await sent_at_least(office, campaign, first.sent + 30)
    ours.send(signal.SIGTERM)
    assert await ours.ended() == 0
    async with node_worker(office, bullmq):
        await flawless(office, campaign)


async def test_a_job_that_comes_twice_is_one_mail_whoever_had_it_first(
    office: Office, node_bullmq: Callable[[int], NodeBullMQ]
) -> None:
    campaign = await office.app.campaign(MAILS // 2)
    jobs = [office.app.data(campaign, one) for one in range(MAILS // 2)]
    async with node_worker(office, node_bullmq(6)) as node:
        await office.add("send-email", jobs)
        await office.completed(MAILS // 2)
    assert node.sent == MAILS // 2
    await office.add("send-email", jobs)
    await office.site.ready("ours")
    await office.completed(MAILS)
    assert office.sent_to(campaign) == sorted(campaign.addresses)
    assert await office.app.statuses(campaign) == {"SENT": MAILS // 2}
    assert await office.app.counts(campaign) == (MAILS // 2, 0)
