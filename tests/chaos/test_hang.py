"""A worker that hangs ends itself, or ends at the deadline of its stop; others have its jobs."""

from __future__ import annotations

import signal
import time
from collections.abc import Awaitable, Callable

import pytest
import redis.asyncio

from campaign_worker.embedded.redis import RedisServer
from campaign_worker.embedded.smtp_script import Moment, Silence, by_recipient
from campaign_worker.queue import Job, Worker
from shutdown import ExitCode
from tests.acceptance.evidence import flawless
from tests.acceptance.site import Campaign, Site
from tests.integration.queue.conftest import Events
from tests.support import eventually

SHORT_LOCKS = {
    "LOCK_DURATION_MS": "1000",
    "STALLED_INTERVAL_MS": "300",
    "SEND_TIMEOUT": "1.5",
    "LEASE_SECONDS": "2",
    "RECONCILE_INTERVAL_SECONDS": "0.3",
}
# What a careless extension would do to the loop, at a moment that the test chooses.
BLOCKS_THE_LOOP = """
import signal, time

def block(*_):
    print("standing still", flush=True)
    # A signal just before a system call is only seen when the call returns.
    time.sleep(0.5)
    time.sleep(60)

signal.signal(signal.SIGUSR1, block)
"""
HOLDS_THE_GIL = r"""
import re, signal

def block(*_):
    print("standing still", flush=True)
    re.match(r"(a+)+$", "a" * 64 + "b")

signal.signal(signal.SIGUSR1, block)
"""
HOLDS_A_THREAD = """
import asyncio, signal, time

def block(*_):
    asyncio.get_running_loop().run_in_executor(None, time.sleep, 60)
    print("standing still", flush=True)

signal.signal(signal.SIGUSR1, block)
"""
LOSES_ITS_FETCHER = """
import asyncio, signal
from campaign_worker import app, logs

def lose(*_):
    [task.cancel() for task in asyncio.all_tasks() if task.get_name() == "fetcher"]

def run(settings):
    async def main():
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, lose)
        return await app.App(settings, claimless_limit_seconds=1.0).run()

    logs.configure("json", "info", instance=settings.instance_id)
    return asyncio.run(main())

app.run = run
"""


async def test_a_loop_that_is_blocked_for_four_lock_durations_ends_with_70_and_all_stacks(
    site: Site,
) -> None:
    hung = await site.ready("hung", before=BLOCKS_THE_LOOP, **SHORT_LOCKS)
    began = time.monotonic()
    hung.send(signal.SIGUSR1)
    assert await hung.ended(12) == ExitCode.INTERNAL_ERROR
    assert 3.5 < time.monotonic() - began < 8
    words = "\n".join(hung.plain_lines())
    assert "campaign-worker: hung with 0 active jobs: event loop stood still for " in words
    assert ", in block" in words


async def test_a_ready_worker_that_no_longer_claims_ends_with_70(site: Site) -> None:
    worker = await site.ready("worker", before=LOSES_ITS_FETCHER)
    campaign = await site.campaign(5)
    await site.add(campaign)
    assert await site.finished(campaign) == flawless(5)
    worker.send(signal.SIGUSR1)
    assert await worker.ended(12) == ExitCode.INTERNAL_ERROR
    assert "claiming stood still for 1." in "\n".join(worker.plain_lines())


async def test_an_idle_worker_frozen_far_beyond_the_limits_goes_on_when_it_thaws(
    site: Site,
) -> None:
    worker = await site.ready("worker", before=LOSES_ITS_FETCHER, **SHORT_LOCKS)
    worker.freeze()
    thaw_at = time.monotonic() + 6
    await eventually(lambda: time.monotonic() > thaw_at, 7)
    worker.thaw()
    campaign = await site.campaign(5)
    await site.add(campaign)
    assert await site.finished(campaign) == flawless(5)
    worker.send(signal.SIGTERM)
    assert await worker.ended() == 0


@pytest.mark.parametrize(
    ("fault", "code"),
    [(BLOCKS_THE_LOOP, ExitCode.WATCHDOG), (HOLDS_THE_GIL, ExitCode.FORCED)],
    ids=["sleep", "regular expression"],
)
async def test_a_blocked_loop_is_gone_at_the_deadline_of_the_stop_and_a_rival_has_its_jobs(
    site: Site, fault: str, code: ExitCode
) -> None:
    """Budget 1.6 s; the second layer of the watchdog is half a second later."""
    campaign = await site.campaign(4)
    site.sink.hold()
    blocked = await site.ready("blocked", before=fault, DRAIN_SECONDS="2", **SHORT_LOCKS)
    await site.add(campaign)
    await site.sink.wait_at_dot(4)
    blocked.send(signal.SIGUSR1)
    await eventually(lambda: "standing still" in blocked.plain_lines())
    signalled = time.monotonic()
    blocked.send(signal.SIGTERM)
    assert await blocked.ended(6) == code
    assert time.monotonic() - signalled < 1.6 + 0.5 + 1.0
    words = "\n".join(blocked.plain_lines())
    assert "4 jobs were still active" in words or "Timeout (0:00:" in words
    await site.ready("rival", **SHORT_LOCKS)
    verdict = await site.finished(campaign)
    # Their dots were out: nobody can know, and nobody sends them again.
    assert verdict.states == {"in_doubt": 4}
    assert (verdict.lost, verdict.duplicated, verdict.miscounted) == (0, 0, 0)


async def test_a_mail_before_its_mark_that_a_blocked_loop_held_is_sent_by_the_rival_once(
    site: Site,
) -> None:
    campaign = await site.campaign(1)
    (address,) = campaign.addresses.values()
    site.sink.script = by_recipient(Moment.RCPT, {address: Silence()}, tries=1)
    patient = {**SHORT_LOCKS, "SEND_TIMEOUT": "20", "DRAIN_SECONDS": "2"}
    blocked = await site.ready("blocked", before=BLOCKS_THE_LOOP, **patient)
    await site.add(campaign)
    await eventually(lambda: is_sending(site, campaign))
    blocked.send(signal.SIGUSR1)
    await eventually(lambda: "standing still" in blocked.plain_lines())
    blocked.send(signal.SIGTERM)
    assert await blocked.ended(6) == ExitCode.WATCHDOG
    await site.ready("rival", **SHORT_LOCKS)
    verdict = await site.finished(campaign, 20)
    assert (verdict.accepted, verdict.states, verdict.attempts_changed) == (1, {"sent": 1}, 0)
    assert (verdict.lost, verdict.duplicated, verdict.miscounted) == (0, 0, 0)


async def test_a_thread_that_does_not_end_keeps_nobody_beyond_the_deadline(site: Site) -> None:
    """As a name server that does not answer holds the thread that asks it."""
    worker = await site.ready("worker", before=HOLDS_A_THREAD, DRAIN_SECONDS="2")
    worker.send(signal.SIGUSR1)
    await eventually(lambda: "standing still" in worker.plain_lines())
    signalled = time.monotonic()
    worker.send(signal.SIGTERM)
    assert await worker.ended(8) == ExitCode.WATCHDOG
    assert time.monotonic() - signalled < 1.6 + 0.5 + 1.0
    assert worker.last_words["abandoned"] == 0


async def test_a_redis_that_refuses_claims_is_no_worker_that_hangs(
    own_redis: Callable[..., Awaitable[RedisServer]],
) -> None:
    async def process(job: Job, token: str) -> None:
        """Never called."""

    server = await own_redis()
    client = redis.asyncio.Redis.from_url(server.url, decode_responses=True)
    worker = Worker("mails", process, {"connection": server.url, "drainDelay": 0.1})
    events = Events(worker, "error")
    await eventually(lambda: worker.claimless_seconds > 0)
    await client.config_set("maxmemory", "1mb")
    await eventually(lambda: len(events.seen) >= 2, 8)
    assert type(events.seen[0][1][0]).__name__ == "OutOfMemoryError"
    assert worker.claimless_seconds == 0
    await worker.close()
    await client.aclose()


async def is_sending(site: Site, campaign: Campaign) -> bool:
    return [row["state"] for row in (await site.reading(campaign)).rows] == ["sending"]
