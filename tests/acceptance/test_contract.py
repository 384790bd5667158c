"""A worker serves an existing app by its contract alone: jobs and tables are the app's."""

from __future__ import annotations

import signal
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from campaign_worker.queue.keys import QueueKeys
from campaign_worker.queue.producer import JobSpec, Producer
from tests.acceptance.site import Site
from tests.integration.contract.apps import AppCampaign, Drizzle, Prisma
from tests.support import eventually

OPTIONS = {"attempts": 3, "backoff": {"type": "fixed", "delay": 50}, "removeOnFail": False}


class Office:
    """An app beside a site: its tables in the site's database, its contract in CONTRACT."""

    def __init__(self, site: Site, app: Prisma | Drizzle, queue: str, folder: Path) -> None:
        self.site = site
        self.app: Any = app
        self.queue = queue
        self.file = folder / "contract.toml"
        self.file.write_text(app.contract)
        site.env["CONTRACT"] = str(self.file)

    async def add(self, name: str, data: Sequence[Any], **opts: Any) -> list[str]:
        async with self.site.redis() as client:
            return await Producer(client, self.queue, self.site.prefix).add_many(
                [JobSpec(name, one, opts={**OPTIONS, **opts}) for one in data]
            )

    async def counts(self) -> dict[str, int]:
        async with self.site.redis() as client:
            return await Producer(client, self.queue, self.site.prefix).counts()

    async def job(self, job_id: str) -> Mapping[str, str]:
        async with self.site.redis() as client:
            found = await client.hgetall(QueueKeys(self.queue, self.site.prefix).job(job_id))
            return {str(name): str(value) for name, value in found.items()}

    async def completed(self, count: int, timeout_seconds: float = 20.0) -> None:
        async def all_done() -> bool:
            return (await self.counts())["completed"] == count

        await eventually(all_done, timeout_seconds)

    def sent_to(self, campaign: AppCampaign) -> list[str]:
        wanted = set(campaign.addresses)
        return sorted(
            one for mail in self.site.sink.mails for one in mail.recipients if one in wanted
        )


@pytest.fixture
async def raw(site: Site) -> AsyncIterator[asyncpg.Connection[Any]]:
    """Return a connection that plays the app."""
    async with site.postgres() as connection:
        yield connection


@pytest.fixture
async def prisma(site: Site, raw: asyncpg.Connection[Any], tmp_path: Path) -> Office:
    """Return the office of an app of quoted camelCase tables."""
    app = Prisma(raw)
    await app.create()
    return Office(site, app, "campaign", tmp_path)


@pytest.fixture
async def drizzle(site: Site, raw: asyncpg.Connection[Any], tmp_path: Path) -> Office:
    """Return the office of an app of snake_case tables."""
    app = Drizzle(raw)
    await app.create()
    return Office(site, app, "mails", tmp_path)


async def test_a_campaign_goes_out_once_to_each_through_a_rolling_deploy(prisma: Office) -> None:
    site, campaign = prisma.site, await prisma.app.campaign(120)
    first = await site.ready("first")
    await prisma.add("send-email", [prisma.app.data(campaign, index) for index in range(120)])
    await site.accepted(20)
    first.send(signal.SIGTERM)
    await site.ready("second")
    assert await first.ended() == 0
    await prisma.completed(120)
    assert prisma.sent_to(campaign) == sorted(campaign.addresses)
    assert await prisma.app.statuses(campaign) == {"SENT": 120}
    assert await prisma.app.counts(campaign) == (120, 0)


async def test_a_list_is_a_row_each_reports_progress_and_goes_on_after_a_stop(
    drizzle: Office,
) -> None:
    site, campaign = drizzle.site, await drizzle.app.campaign(60)
    data = {"campaign_id": campaign.id, "contact_ids": [int(one) for one in campaign.recipients]}
    first = await site.ready("first", SEND_RATE_PER_SECOND="20")
    (job_id,) = await drizzle.add("deliver-all", [data])
    await site.accepted(10)
    # No second signal: a list does not use up the drain window.
    first.send(signal.SIGTERM)
    assert await first.ended(timeout_seconds=8) == 0
    assert first.last_words["handed_back"] == 1
    assert len(drizzle.sent_to(campaign)) < 60
    await site.ready("second")
    await drizzle.completed(1)
    assert drizzle.sent_to(campaign) == sorted(campaign.addresses)
    assert await drizzle.app.statuses(campaign) == {"delivered": 60}
    assert await drizzle.app.counts(campaign) == (60, 0)
    job = await drizzle.job(job_id)
    assert job["progress"] == "100"
    assert '"total":60,"sent":60' in job["returnvalue"].replace(" ", "")
    assert job.get("atm", "0") in ("0", "1")


async def test_the_app_s_rows_say_what_ours_say_after_a_worker_was_killed(prisma: Office) -> None:
    site, campaign = prisma.site, await prisma.app.campaign(100)
    quick = {"LOCK_DURATION_MS": "1500", "STALLED_INTERVAL_MS": "500", "LEASE_SECONDS": "1.5"}
    quick |= {"RECONCILE_INTERVAL_SECONDS": "0.5"}
    first = await site.ready("first", **quick)
    await prisma.add("send-email", [prisma.app.data(campaign, index) for index in range(100)])
    await site.accepted(25)
    await first.kill()
    await site.ready("second", **quick)

    async def over() -> bool:
        left = await prisma.app.raw.fetchval(
            "SELECT 100 - count(*) FROM campaign_worker.messages"
            " WHERE state IN ('sent', 'in_doubt')"
        )
        return bool(left == 0)

    await eventually(over, 30)
    sent_to = prisma.sent_to(campaign)
    assert len(sent_to) == len(set(sent_to))
    rows = await prisma.app.raw.fetch(
        'SELECT r."status"::text AS theirs, m.state AS ours FROM campaign_worker.messages m'
        " JOIN campaign_worker.contract_recipients k ON k.recipient_id = m.recipient_id"
        ' JOIN "Recipient" r ON r."id" = k.key::uuid'
    )
    words = {"sent": "SENT", "in_doubt": "PENDING"}
    assert [row["theirs"] for row in rows] == [words[row["ours"]] for row in rows]
    sent = sum(row["ours"] == "sent" for row in rows)
    assert await prisma.app.counts(campaign) == (sent, 0)
    assert sent >= 90


async def test_return_values_are_the_app_s_and_unknown_jobs_stay_its_own(drizzle: Office) -> None:
    campaign = await drizzle.app.campaign(1)
    (sent,) = await drizzle.add("deliver", [drizzle.app.data(campaign, 0)])
    (parked,) = await drizzle.add("nightly-report", [{}])
    await drizzle.site.ready("worker")
    await drizzle.completed(1)
    (mail,) = [one for one in drizzle.site.sink.mails if campaign.addresses[0] in one.recipients]
    said = (await drizzle.job(sent))["returnvalue"].replace(" ", "")
    assert said == f'{{"ok":true,"id":"{mail.message_id}","what":"sent"}}'

    async def put_off() -> bool:
        return (await drizzle.counts())["delayed"] == 1

    await eventually(put_off)
    assert (await drizzle.job(parked)).get("atm", "0") == "0"


async def test_whole_mails_are_told_by_their_key(drizzle: Office) -> None:
    ids = [await drizzle.app.raw.fetchval("INSERT INTO outbox DEFAULT VALUES RETURNING id")]
    ids.append(await drizzle.app.raw.fetchval("INSERT INTO outbox DEFAULT VALUES RETURNING id"))
    mail = {"to": f"{uuid.uuid4().hex}@example.net", "subject": "s", "body": "b"}
    # The first comes twice: the key says that it is one mail.
    jobs = [{"outbox_id": one, "mail": mail} for one in (ids[0], ids[0], ids[1])]
    await drizzle.add("transactional", jobs)
    # The second of one key waits for the first one's lease, if it finds it on its way.
    await drizzle.site.ready("worker", LEASE_SECONDS="3")
    await drizzle.completed(3)
    assert len([one for one in drizzle.site.sink.mails if mail["to"] in one.recipients]) == 2
    rows = await drizzle.app.raw.fetch("SELECT state, message_id FROM outbox")
    assert {row["state"] for row in rows} == {"sent"}
    assert all(row["message_id"] for row in rows)


async def test_a_launch_adds_a_job_for_each_in_the_app_s_own_form(prisma: Office) -> None:
    campaign = await prisma.app.campaign(30)
    await prisma.add("start-campaign", [{"campaignId": campaign.id}])
    await prisma.site.ready("worker")
    await prisma.completed(31)
    assert prisma.sent_to(campaign) == sorted(campaign.addresses)
    assert await prisma.app.statuses(campaign) == {"SENT": 30}
    recipient = await prisma.app.raw.fetchval(
        "SELECT min(recipient_id) FROM campaign_worker.messages"
    )
    job = await prisma.job(f"mail-1-{recipient}-0")
    assert job["name"] == "send-email"
    assert f'"campaignId":"{campaign.id}","contact":{{"id":' in job["data"].replace(" ", "")


async def test_jobs_that_redis_lost_come_back_in_the_app_s_own_form(prisma: Office) -> None:
    site, campaign = prisma.site, await prisma.app.campaign(30)
    await prisma.add("start-campaign", [{"campaignId": campaign.id}])
    site.sink.hold()
    worker = await site.ready("worker")
    # The launch is done when as many are at their dot as jobs run at once.
    await site.sink.wait_at_dot(10)
    await worker.kill()
    site.sink.release()
    async with site.redis() as client:
        await client.delete(*[one async for one in client.scan_iter(f"{site.prefix}:*")])
    recovered = await site.cli("recover")
    assert recovered.code == 0, recovered.stderr
    async with site.redis() as client:
        keys = [one async for one in client.scan_iter(f"{site.prefix}:campaign:mail-*")]
        jobs = [await client.hgetall(one) for one in keys]
    assert len(jobs) == 20
    assert {one["name"] for one in jobs} == {"send-email"}
    assert all(f'"campaignId":"{campaign.id}"' in one["data"] for one in jobs)


async def test_follow_ups_that_the_worker_schedules_have_the_app_s_own_form(
    prisma: Office,
) -> None:
    campaign = await prisma.app.campaign(3)
    await prisma.app.raw.execute(
        'INSERT INTO "FollowUp" ("campaignId", "step", "subject", "bodyHtml", "delayHours")'
        " VALUES ($1, 1, 'again', '<p>again</p>', 0)",
        uuid.UUID(campaign.id),
    )
    await prisma.add("send-email", [prisma.app.data(campaign, index) for index in range(3)])
    await prisma.site.ready("worker")
    await prisma.completed(6)
    assert prisma.sent_to(campaign) == sorted(campaign.addresses * 2)
    assert await prisma.app.statuses(campaign) == {"SENT": 3}
    recipient = await prisma.app.raw.fetchval(
        "SELECT min(recipient_id) FROM campaign_worker.messages"
    )
    job = await prisma.job(f"mail-1-{recipient}-1")
    assert job["name"] == "follow-up"
    assert '"step":1' in job["data"].replace(" ", "")


@pytest.mark.parametrize("command", [("enqueue", "1"), ("pause", "1"), ("resume", "1")])
async def test_what_an_app_says_of_its_campaigns_no_command_says(
    prisma: Office, command: tuple[str, ...]
) -> None:
    result = await prisma.site.cli(*command)
    assert result.code == 1
    assert "the app starts, pauses and resumes its campaigns" in result.stderr


async def test_the_status_shows_the_contract_s_queues(drizzle: Office) -> None:
    await drizzle.add("nightly-report", [{}, {}])
    result = await drizzle.site.cli("status")
    assert result.code == 0
    assert result.stdout == "queues\n  mails: waiting 2\ncampaigns: -\nuntrue_counts: -\n"


async def test_a_paused_campaign_goes_on_when_the_app_resumes_it(prisma: Office) -> None:
    site, campaign = prisma.site, await prisma.app.campaign(10, status="PAUSED")
    await prisma.add("send-email", [prisma.app.data(campaign, index) for index in range(10)])
    await site.ready("worker", RECONCILE_INTERVAL_SECONDS="0.5")

    async def all_wait() -> bool:
        return (await prisma.counts())["delayed"] == 10

    await eventually(all_wait)
    await prisma.app.raw.execute('UPDATE "Campaign" SET "status" = \'RUNNING\'')
    await prisma.completed(10, timeout_seconds=45)
    assert await prisma.app.statuses(campaign) == {"SENT": 10}


async def test_a_contract_that_does_not_fit_ends_the_start_with_lines_to_mend(
    prisma: Office,
) -> None:
    await prisma.app.raw.execute('ALTER TABLE "Recipient" RENAME "email" TO "mail"')
    worker = prisma.site.start("worker")
    assert await worker.ended() == 78
    line = Prisma.contract[: Prisma.contract.index('r."email"')].count("\n") + 1
    assert f"{prisma.file}:{line}: load.recipients: column r.email does not exist" in worker.output


@pytest.mark.parametrize(
    ("change", "back", "held"),
    [
        (
            'ALTER TABLE "Recipient" RENAME "email" TO "mail"',
            'ALTER TABLE "Recipient" RENAME "mail" TO "email"',
            "contract load.recipients: column r.email does not exist",
        ),
        (
            'ALTER TABLE "Recipient" RENAME "sentAt" TO "sent"',
            'ALTER TABLE "Recipient" RENAME "sent" TO "sentAt"',
            'contract write.recipients: column "sentAt" of relation "Recipient" does not exist',
        ),
    ],
    ids=["load", "write"],
)
async def test_a_contract_that_turns_wrong_stops_intake_and_spends_no_attempt(
    prisma: Office, change: str, back: str, held: str
) -> None:
    site, campaign = prisma.site, await prisma.app.campaign(20)
    worker = await site.ready("worker")
    await prisma.app.raw.execute(change)
    ids = await prisma.add("send-email", [prisma.app.data(campaign, index) for index in range(20)])

    async def says_so() -> bool:
        return any(one.startswith(held) for one in (await worker.health())["held"])

    await eventually(says_so, 10)
    assert (await worker.health())["state"] == "ready"
    assert await worker.status("/health") == 200
    await prisma.app.raw.execute(back)
    await prisma.completed(20)
    assert prisma.sent_to(campaign) == sorted(campaign.addresses)
    assert await site_settles(prisma, campaign) == {"SENT": 20}
    assert await prisma.app.counts(campaign) == (20, 0)
    made = {(await prisma.job(one)).get("atm", "0") for one in ids}
    assert made == {"1"}
    attempts = await prisma.app.raw.fetchval("SELECT max(attempts) FROM campaign_worker.messages")
    assert attempts == 0


async def site_settles(office: Office, campaign: AppCampaign) -> dict[str, int]:
    """Wait until nothing is left that the app has to be told."""

    async def told() -> bool:
        statuses = await office.app.statuses(campaign)
        return "PENDING" not in statuses

    await eventually(told, 15)
    found: dict[str, int] = await office.app.statuses(campaign)
    return found
