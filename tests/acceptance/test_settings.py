"""Settings do in a real worker what their description says."""

from __future__ import annotations

import time
from collections import Counter

from campaign_worker.settings.kinds import SigningKey
from campaign_worker.tracking.tokens import Keyring
from campaign_worker.tracking.urls import TrackingUrls
from tests.acceptance.evidence import Verdict, flawless
from tests.acceptance.site import Site, SiteMaker
from tests.support import eventually

BASE = "https://track.example.org"
SECRET = "signing-secret-of-this-test-0123456789"
URLS = TrackingUrls(BASE, Keyring([SigningKey("2026", SECRET)]))
ANOTHER_SCHEMA = {
    "DATABASE_SCHEMA": "mail_2",
    "TRACKING_BASE_URL": BASE,
    "TRACKING_SIGNING_KEYS": f"2026:{SECRET}",
}
CAMPAIGN_IN_ANOTHER_SCHEMA = """
WITH template AS (
    INSERT INTO mail_2.templates (subject, html)
    VALUES ('s', '<p>Dear {{ recipient.name }}, <a href="https://shop.example/">look</a></p>')
    RETURNING id
), campaign AS (
    INSERT INTO mail_2.campaigns (name, status, template_id)
    SELECT 'elsewhere', 'running', id FROM template RETURNING id, template_id
), follow_up AS (
    INSERT INTO mail_2.follow_ups (campaign_id, step, template_id, delay_seconds)
    SELECT id, 1, template_id, 0 FROM campaign
)
INSERT INTO mail_2.recipients (campaign_id, email, name)
SELECT id, 'r' || n || '@people.example', 'Ann' FROM campaign, generate_series(1, 5) n
RETURNING campaign_id
"""
OTHERS_CONNECTED = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""
SCHEMAS = "SELECT DISTINCT schemaname FROM pg_tables WHERE schemaname !~ '^(pg_|information_)'"


async def test_a_run_in_a_schema_of_another_name_touches_no_other(
    empty_database_url: str, make_site: SiteMaker
) -> None:
    site = make_site(database_url=empty_database_url, secrets=(SECRET,), env=ANOTHER_SCHEMA)
    assert (await site.cli("migrate")).code == 0
    async with site.postgres() as connection:
        campaign = await connection.fetchval(CAMPAIGN_IN_ANOTHER_SCHEMA)
        assert (await site.cli("enqueue", str(campaign))).code == 0
        worker = await site.ready("worker")

        async def all_sent() -> bool:
            sql = "SELECT sent_count FROM mail_2.campaign_counts WHERE campaign_id = $1"
            return await connection.fetchval(sql, campaign) == 10

        await eventually(all_sent, 15)
        row = await connection.fetchval("SELECT min(id) FROM mail_2.messages")
        assert await worker.status(URLS.open(row).removeprefix(BASE)) == 200
        opens = await connection.fetchval("SELECT count(*) FROM mail_2.tracking_events")
        status = await site.cli("status", "--json")
        schemas = [one["schemaname"] for one in await connection.fetch(SCHEMAS)]
    assert opens == 1
    assert '"sent_count": 10' in status.stdout
    assert '"untrue_counts": []' in status.stdout
    assert schemas == ["mail_2"]
    assert worker.records("intake held") == []


async def test_replicas_share_the_send_rate_and_say_it(site: Site) -> None:
    campaign = await site.campaign(31)
    for name in ("first", "second"):
        worker = await site.ready(name, SEND_RATE_PER_SECOND="20")
        await worker.says("starting", send_rate=20.0)
    began = time.monotonic()
    await site.add(campaign)
    assert await site.finished(campaign) == flawless(31)
    # Thirty distances of 50 ms between 31 mails, whoever sends them.
    assert time.monotonic() - began >= 1.5
    freely = await site.ready("freely")
    await freely.says("starting", send_rate="unlimited")


async def test_replicas_share_the_limiter_of_a_queue(site: Site) -> None:
    limiter = {"LIMITER_MAX": "5", "LIMITER_DURATION_MS": "500"}
    campaign = await site.campaign(16)
    for name in ("first", "second"):
        await site.ready(name, **limiter)
    began = time.monotonic()
    await site.add(campaign)
    assert await site.finished(campaign) == flawless(16)
    # The sixteenth job is in the fourth window, which begins three windows after the first job.
    assert time.monotonic() - began >= 1.5


async def test_connections_are_as_many_as_long_and_as_idle_as_set(site: Site) -> None:
    campaign = await site.campaign(24)
    site.sink.hold()
    worker = await site.ready(
        "worker",
        EHLO_NAME="mx.sender.test",
        SMTP_MAX_CONNECTIONS="3",
        SMTP_MESSAGES_PER_CONNECTION="4",
        SMTP_IDLE_TIMEOUT_SECONDS="0.3",
    )
    await site.add(campaign)
    await site.sink.wait_at_dot(3)
    await worker.in_flight(10)
    assert site.sink.open_connections == 3
    site.sink.release()
    assert await site.finished(campaign) == flawless(24)
    mails = site.mails_to(campaign)
    assert {mail.ehlo_name for mail in mails} == {"mx.sender.test"}
    assert max(Counter(mail.connection for mail in mails).values()) == 4
    await eventually(lambda: site.sink.open_connections == 0)
    assert await worker.status("/ready") == 200


async def test_one_connection_to_postgres_is_enough(site: Site) -> None:
    campaign = await site.campaign(40, follow_up_seconds=0)
    await site.ready("worker", DATABASE_POOL_SIZE="1")
    site.sink.hold()
    await site.add(campaign)
    await site.sink.wait_at_dot(10)
    async with site.postgres() as connection:
        assert await connection.fetchval(OTHERS_CONNECTED) == 1
    site.sink.release()
    assert await site.finished(campaign) == flawless(80)


async def test_an_answer_to_the_dot_is_waited_for_as_long_as_set(site: Site) -> None:
    campaign = await site.campaign(1)
    site.sink.hold()
    await site.ready("worker", SEND_REPLY_TIMEOUT_SECONDS="0.5")
    await site.add(campaign)
    await site.sink.wait_at_dot(1)
    verdict = await site.finished(campaign)
    assert verdict == Verdict(accepted=0, states={"in_doubt": 1}, jobs_failed=1)
    site.sink.release()
