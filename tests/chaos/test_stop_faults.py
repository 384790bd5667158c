"""A stop that meets a fault: in a claim, with servers away, with jobs that resist."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator

import pytest

from campaign_worker.embedded.postgres import PostgresServer
from campaign_worker.embedded.redis import RedisServer
from campaign_worker.embedded.smtp_script import Moment, Silence, by_recipient
from campaign_worker.queue import Producer
from tests.acceptance.conftest import mortal_postgres, mortal_redis
from tests.acceptance.evidence import flawless
from tests.acceptance.process import WorkerProcess
from tests.acceptance.site import Campaign, Site, SiteMaker
from tests.support import TcpProxy, eventually

__all__ = ["mortal_postgres", "mortal_redis"]

BUDGET_SECONDS = 2.4
DRAIN_SECONDS = "3"
# Owners that are gone are given up early, so that the test sees what becomes of theirs.
IMPATIENT = {
    "LOCK_DURATION_MS": "1000",
    "STALLED_INTERVAL_MS": "500",
    "SEND_TIMEOUT": "2",
    "LEASE_SECONDS": "3",
    "RECONCILE_INTERVAL_SECONDS": "0.3",
    "DRAIN_SECONDS": DRAIN_SECONDS,
}
# The product's stop around a job that resists all that it has to say.
STUBBORN = """
import asyncio, json, os
from campaign_worker import logs
from campaign_worker.queue import Worker
from campaign_worker.stopping import Stop, Tally
from shutdown import Signals, Watchdog

given = json.loads(os.environ["INPUT"])

class Nothing:
    async def close(self, deadline):
        pass
    async def stop(self):
        pass

async def process(job, token, signal):
    print("started", flush=True)
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            print(f"ignored {signal.reason}", flush=True)

async def main():
    tally = Tally()
    # As the product has it: never disarmed, for asyncio.run() waits for the job in vain.
    watchdog = Watchdog(lambda: "one job was left")
    watchdog.start()
    with Signals(1.5, lambda level, deadline: watchdog.arm(deadline)) as signals:
        worker = Worker("mails", process, given, listener=tally)
        deadline = await signals.stop_requested()
        nothing = Nothing()
        await Stop(
            workers=[worker], background=[], ledger=nothing, leases=nothing, slowest=nothing,
            transports=[], database=nothing, signals=signals, tally=tally, listener=tally,
        ).run(deadline)

logs.configure("json", "info", instance="stubborn")
asyncio.run(main())
"""


@contextlib.asynccontextmanager
async def one_claim_under_way(
    site: Site, proxy: TcpProxy
) -> AsyncIterator[tuple[WorkerProcess, Campaign]]:
    """Have a worker send a mail whose end claims the next job; the reply is held."""
    campaign = await site.campaign(2)
    site.sink.hold()
    worker = await site.ready("worker", REDIS_URL=proxy.url, CONCURRENCY="1")
    await site.add(campaign)
    await site.sink.wait_at_dot(1)
    proxy.hold_replies()
    site.sink.release()
    await eventually(lambda: has(site, completed=1, active=1))
    yield worker, campaign
    assert await worker.ended() == 0
    await nothing_is_active(site, campaign)


async def test_a_claim_that_redis_has_not_seen_at_the_signal_leaves_nothing_active(
    site: Site,
) -> None:
    async with TcpProxy(site.redis_url) as proxy:
        worker = await site.ready("worker", REDIS_URL=proxy.url)
        campaign = await site.campaign(1)
        proxy.hold_requests()
        await site.add(campaign)
        # The idle block brings the marker; the claim that follows is kept by the proxy.
        await eventually(lambda: marker_taken(site))
        worker.send(signal.SIGTERM)
        await worker.says("stopping")
        proxy.pass_all()
        assert await worker.ended() == 0
        assert await has(site, waiting=1)
    await site.ready("next")
    assert await site.finished(campaign) == flawless(1)


async def test_a_claim_whose_reply_is_held_at_the_signal_is_handed_back(site: Site) -> None:
    async with TcpProxy(site.redis_url) as proxy, one_claim_under_way(site, proxy) as (worker, _):
        worker.send(signal.SIGTERM)
        await worker.says("stopping")
        proxy.pass_all()


async def test_a_claim_whose_reply_is_lost_at_the_signal_is_handed_back(site: Site) -> None:
    async with TcpProxy(site.redis_url) as proxy, one_claim_under_way(site, proxy) as (worker, _):
        proxy.drop_replies()
        worker.send(signal.SIGTERM)
        await worker.says("stopping")
        proxy.cut()
        proxy.pass_all()


async def test_a_claim_whose_reply_comes_together_with_the_signal_is_handed_back(
    site: Site,
) -> None:
    async with TcpProxy(site.redis_url) as proxy, one_claim_under_way(site, proxy) as (worker, _):
        worker.freeze()
        proxy.pass_all()
        worker.send(signal.SIGTERM)
        worker.thaw()


async def test_a_signal_before_anything_has_begun_ends_the_process_at_once(site: Site) -> None:
    """Whenever it comes, from the first line of Python to the first log line."""
    for number in range(6):
        worker = site.start(f"worker-{number}", before="print('begun', flush=True)")
        await eventually(lambda worker=worker: "begun" in worker.output)
        at = time.monotonic() + number * 0.1
        await eventually(lambda at=at: time.monotonic() > at)
        worker.send(signal.SIGTERM)
        # -15: before the first handler, where only the first process of a container needs one.
        assert await worker.ended(5) in {-15, 143, 0}


@pytest.mark.parametrize("away", ["redis", "postgres"])
async def test_a_signal_while_a_server_is_being_reconnected_ends_it_in_time(
    site: Site, away: str
) -> None:
    async with TcpProxy(site.redis_url) as redis, TcpProxy(site.database_url) as postgres:
        worker = await site.ready(
            "worker", REDIS_URL=redis.url, DATABASE_URL=postgres.url, **IMPATIENT
        )
        (redis if away == "redis" else postgres).refuse()
        campaign = await site.campaign(5)
        await site.add(campaign)
        if away == "redis":
            await worker.says("Redis does not answer")
        else:
            await worker.says("intake held", away="postgres")
        signalled = time.monotonic()
        worker.send(signal.SIGTERM)
        assert await worker.ended(5) == 0
        assert time.monotonic() - signalled < BUDGET_SECONDS
    assert await has(site, waiting=5)
    await site.ready("next", **IMPATIENT)
    assert await site.finished(campaign) == flawless(5)


@pytest.mark.parametrize(
    ("away", "how"),
    [
        ("redis", "frozen"),
        ("redis", "cut off"),
        ("postgres", "frozen"),
        ("postgres", "cut off"),
        ("both", "frozen"),
        ("both", "killed"),
        ("both", "cut off"),
    ],
)
async def test_servers_that_go_away_in_the_drain_hold_nobody_up_and_make_no_false_row(
    make_site: SiteMaker,
    mortal_redis: RedisServer,
    mortal_postgres: PostgresServer,
    away: str,
    how: str,
) -> None:
    site = make_site(redis_url=mortal_redis.url, database_url=mortal_postgres.url, env=IMPATIENT)
    async with TcpProxy(mortal_redis.url) as redis, TcpProxy(mortal_postgres.url) as postgres:
        old = await site.ready("old", REDIS_URL=redis.url, DATABASE_URL=postgres.url)
        campaign = await site.campaign(14)
        site.sink.hold()
        await site.add(campaign)
        await site.sink.wait_at_dot(10)
        signalled = time.monotonic()
        old.send(signal.SIGTERM)
        await old.says("stopping")
        chosen = {
            "redis": [(mortal_redis, redis)],
            "postgres": [(mortal_postgres, postgres)],
            "both": [(mortal_redis, redis), (mortal_postgres, postgres)],
        }[away]
        await take_away(chosen, how)
        site.sink.release()
        assert await old.ended(6) in {0, 75}
        assert time.monotonic() - signalled < BUDGET_SECONDS + 1.0
    if away == "postgres":
        # The lease protects the mail: its job need not wait for Postgres.
        assert (await site.job_counts())["active"] == 0
    for server, _ in chosen:
        if how == "frozen":
            server.thaw()
        elif how == "killed":
            await server.start()
    reading = await site.reading(campaign)
    accepted = {one for mail in reading.mails for one in mail.recipients}
    claimed = {row["email"] for row in reading.rows if row["state"] == "sent"}
    assert claimed <= accepted
    await site.ready("next")
    verdict = await site.finished(campaign, 20)
    assert (verdict.lost, verdict.duplicated, verdict.miscounted) == (0, 0, 0)
    assert verdict.accepted == 14
    assert verdict.states.get("in_doubt", 0) <= (0 if away == "redis" else 10)


async def test_a_row_is_released_before_its_job_is_handed_back(site: Site) -> None:
    campaign = await site.campaign(1)
    (address,) = campaign.addresses.values()
    site.sink.script = by_recipient(Moment.RCPT, {address: Silence()}, tries=1)
    async with TcpProxy(site.database_url) as postgres:
        worker = await site.ready("worker", DATABASE_URL=postgres.url)
        await site.add(campaign)
        await eventually(lambda: in_state(site, campaign, "sending"))
        worker.send(signal.SIGTERM)
        await worker.says("stopping")
        # The release is under way and unanswered: a job that goes back now goes before its row.
        postgres.hold_replies()
        worker.send(signal.SIGTERM)
        await postgres.held_reply.wait()
        assert await has(site, active=1)
        assert await in_state(site, campaign, "sending")
        postgres.pass_all()
        assert await worker.ended(6) == 0
    assert await has(site, waiting=1)
    await site.ready("next")
    assert await site.finished(campaign) == flawless(1)


@pytest.mark.parametrize("how", ["deleted", "stolen"])
async def test_a_lock_that_is_gone_ends_its_job_within_a_renewal_and_sends_nothing(
    site: Site, how: str
) -> None:
    campaign = await site.campaign(1)
    (address,) = campaign.addresses.values()
    site.sink.script = by_recipient(Moment.RCPT, {address: Silence()}, tries=1)
    worker = await site.ready("worker", LOCK_DURATION_MS="4000", STALLED_INTERVAL_MS="3000")
    await site.add(campaign)
    await eventually(lambda: in_state(site, campaign, "sending"))
    async with site.redis() as client:
        (key,) = await client.keys(f"{site.prefix}:campaign:*:lock")
        before = time.monotonic()
        if how == "deleted":
            await client.delete(key)
        else:
            await client.set(key, "somebody else's", px=1500)
    await eventually(lambda: lost_one(worker), 3)
    # Renewed every quarter of the duration.
    assert time.monotonic() - before < 2 * 1.0
    assert site.sink.mails == []
    # Released at once, so that whoever gets the job does not wait for the lease.
    await eventually(lambda: in_state(site, campaign, "scheduled", "sending", "sent"))
    verdict = await site.finished(campaign, 20)
    assert (verdict.accepted, verdict.states) == (1, {"sent": 1})
    assert (verdict.lost, verdict.duplicated, verdict.miscounted) == (0, 0, 0)


@pytest.mark.parametrize(("handed_back", "abandoned"), [(1, 0), (0, 1)], ids=["redis", "no redis"])
async def test_a_job_that_ignores_its_abort_is_accounted_for_and_the_process_goes_in_time(
    site: Site, handed_back: int, abandoned: int
) -> None:
    """It is given to a rival, or left to the stalled sweep where Redis cannot be told."""
    async with TcpProxy(site.redis_url) as proxy, site.redis() as client:
        given = {"connection": proxy.url, "prefix": site.prefix, "lockDuration": 9000}
        producer = Producer(client, "mails", site.prefix)
        await producer.add("mail", {}, job_id="one", opts={"attempts": 3})
        process = await asyncio.create_subprocess_exec(
            *[sys.executable, "-c", STUBBORN],
            env={**os.environ, "INPUT": json.dumps(given)},
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        try:
            assert await process.stdout.readline() == b"started\n"
            if abandoned:
                proxy.hold_requests()
            signalled = time.monotonic()
            process.send_signal(signal.SIGTERM)
            output, _ = await asyncio.wait_for(process.communicate(), 10)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert time.monotonic() - signalled < 1.5 + 1.0
        assert b"ignored AbortReason.SHUTDOWN" in output
        assert process.returncode == 75
        counts = await producer.counts()
        assert (counts["waiting"], counts["active"]) == (handed_back, abandoned)
        *_, last = [line for line in output.splitlines() if line.startswith(b"{")]
        said = json.loads(last)
        assert said["message"] == "worker stopped"
        assert said["in_flight_at_signal"] == 1
        fates = {name: said[name] for name in ("finished", "handed_back", "in_doubt", "abandoned")}
        assert fates == {
            "finished": 0,
            "handed_back": handed_back,
            "in_doubt": 0,
            "abandoned": abandoned,
        }
        job = await client.hgetall(f"{site.prefix}:mails:one")
        assert ("atm" in job, "stc" in job) == (False, False)


async def take_away(chosen: list[tuple[RedisServer | PostgresServer, TcpProxy]], how: str) -> None:
    for server, proxy in chosen:
        if how == "frozen":
            server.freeze()
        elif how == "killed":
            await server.kill()
        else:
            proxy.hold_requests()
            proxy.drop_replies()


async def has(site: Site, **states: int) -> bool:
    return {name: count for name, count in (await site.job_counts()).items() if count} == states


async def marker_taken(site: Site) -> bool:
    async with site.redis() as client:
        return not await client.exists(f"{site.prefix}:campaign:marker")


async def nothing_is_active(site: Site, campaign: Campaign) -> None:
    """See that the second job waits with nothing counted, and that who comes next sends it.

    Or that it was finished in the drain, where its claim was answered just before the signal.
    """
    assert await has(site, completed=1, waiting=1) or await has(site, completed=2)
    for recipient in campaign.recipients:
        job = await site.job(campaign, recipient)
        assert "stc" not in job
        assert job.get("atm") in {None, "1"}
    await site.ready("next")
    assert await site.finished(campaign) == flawless(2)


async def in_state(site: Site, campaign: Campaign, *states: str) -> bool:
    rows = (await site.reading(campaign)).rows
    return all(row["state"] in states for row in rows)


async def lost_one(worker: WorkerProcess) -> bool:
    return await worker.metric("campaign_worker_jobs_lost_total") == 1
