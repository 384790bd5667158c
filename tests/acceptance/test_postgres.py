"""What Postgres decides: guards under a lock, poolers in between, values that it refuses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from campaign_worker.embedded.postgres import PostgresServer
from campaign_worker.embedded.smtp_script import Answer, Moment, by_recipient
from tests.acceptance.evidence import Verdict, flawless
from tests.acceptance.site import Site, SiteMaker
from tests.fixtures.pgbouncer import Pooled
from tests.support import eventually

_WAITS_FOR_A_LOCK = (
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND wait_event_type = 'Lock'"
)
_ROW = "SELECT state, reason, attempts FROM campaign_worker.messages WHERE recipient_id = $1"


HOLD_THE_RECIPIENT = "SELECT FROM campaign_worker.recipients WHERE id = $1 FOR UPDATE"
MAKE_THE_ROW = """
INSERT INTO campaign_worker.messages (campaign_id, recipient_id, queue)
SELECT campaign_id, id, 'campaign' FROM campaign_worker.recipients WHERE id = $1
"""


@pytest.mark.parametrize("before", [None, HOLD_THE_RECIPIENT, MAKE_THE_ROW])
async def test_an_unsubscribe_that_commits_while_a_claim_meets_its_lock_is_obeyed(
    site: Site, before: str | None
) -> None:
    """The job comes while the unsubscribe is open: the claim waits for it, or comes again."""
    campaign = await site.campaign(3)
    leaving, *staying = campaign.recipients
    await site.ready("worker")
    async with site.postgres() as connection, site.postgres() as observer:
        async with connection.transaction():
            if before is not None:
                await connection.execute(before, leaving)
            await connection.execute(
                "UPDATE campaign_worker.recipients SET unsubscribed_at = now() WHERE id = $1",
                leaving,
            )
            await site.add(campaign, [leaving])
            await eventually(lambda: met_the_lock(site, observer))
        assert site.sink.mails == []
    await site.add(campaign, staying)
    verdict = await site.finished(campaign)
    assert verdict == Verdict(accepted=2, states={"sent": 2, "skipped": 1})
    assert campaign.addresses[leaving] not in site.sink.accepted
    job = await site.job(campaign, leaving)
    assert json.loads(job["returnvalue"]) == {"outcome": "skipped", "reason": "unsubscribed"}


async def test_an_unsubscribe_on_a_row_that_somebody_holds_is_obeyed(site: Site) -> None:
    """SKIP LOCKED passes the row by; the job comes again and reads what has committed meanwhile."""
    campaign = await site.campaign(1)
    (leaving,) = campaign.recipients
    async with site.postgres() as connection:
        await connection.execute(MAKE_THE_ROW, leaving)
        async with connection.transaction():
            await connection.execute(
                "SELECT FROM campaign_worker.messages WHERE recipient_id = $1 FOR UPDATE", leaving
            )
            await site.ready("worker")
            await site.add(campaign)
            await eventually(lambda: delayed(site))
            await connection.execute(
                "UPDATE campaign_worker.recipients SET unsubscribed_at = now() WHERE id = $1",
                leaving,
            )
        assert await site.finished(campaign) == Verdict(accepted=0, states={"skipped": 1})
        row = await connection.fetchrow(_ROW, leaving)
    assert row is not None
    assert tuple(row) == ("skipped", "unsubscribed", 0)


async def test_a_run_goes_through_pgbouncer_in_transaction_mode(
    make_site: SiteMaker,
    own_postgres: Callable[..., Awaitable[PostgresServer]],
    pooled: Pooled,
) -> None:
    server = await own_postgres()
    url = await pooled(server.url)
    site = make_site(
        database_url=url,
        env={"DATABASE_POOLER": "transaction", "MIGRATE_DATABASE_URL": server.url},
    )
    migrations = await asyncio.gather(site.cli("migrate"), site.cli("migrate"))
    assert [one.code for one in migrations] == [0, 0]
    assert sum("nothing to do" in one.stdout for one in migrations) == 1
    checked = await site.cli("check")
    assert checked.code == 0, checked.stdout
    workers = [await site.ready(name) for name in ("first", "second")]
    campaign = await site.campaign(200, follow_up_seconds=0)
    enqueued = await site.cli("enqueue", str(campaign.id))
    assert "200 pending mails, each with a job" in enqueued.stdout
    assert await site.finished(campaign) == flawless(400)
    assert [worker.records("intake held") for worker in workers] == [[], []]


async def test_of_50_accepted_mails_with_odd_replies_50_rows_are_sent(site: Site) -> None:
    campaign = await site.campaign(50)
    addresses = [campaign.addresses[recipient] for recipient in campaign.recipients]
    replies: dict[str, Answer | str | bytes] = {
        addresses[7]: b"250 2.0.0 kept \x00 as 7",
        addresses[8]: b"250 2.0.0 kept \xff\xfe\xed\xa0\x80 as 8",
        addresses[9]: b"250 2.0.0 " + b"\xf0\x9f\x92\x8c" * 90,
    }
    site.sink.script = by_recipient(Moment.DOT, replies)
    worker = await site.ready("worker", CONCURRENCY="50")
    await site.add(campaign)
    assert await site.finished(campaign) == flawless(50)
    assert worker.records("intake held") == []


async def met_the_lock(site: Site, observer: asyncpg.Connection[asyncpg.Record]) -> bool:
    return await delayed(site) or bool(await observer.fetchval(_WAITS_FOR_A_LOCK))


async def delayed(site: Site) -> bool:
    return (await site.job_counts())["delayed"] == 1
