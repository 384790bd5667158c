"""The reconciler over a real queue and real rows: each lost job comes back, and once."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
import redis.asyncio

from campaign_worker.delivery.claims import Claimed
from campaign_worker.delivery.payload import parse
from campaign_worker.delivery.reconciler import Reconciler
from campaign_worker.delivery.requests import JobRef
from campaign_worker.delivery.restoring import Restoring
from campaign_worker.delivery.settlements import MarkReleased, NextStep
from campaign_worker.jobs import MailQueue, QueueEpochs
from campaign_worker.queue.aside import LOOK
from campaign_worker.queue.keys import QueueKeys
from campaign_worker.queue.producer import JobSpec, Producer
from campaign_worker.queue.scripts import load_scripts
from campaign_worker.queue.standing import Standing
from campaign_worker.resting import Resting
from campaign_worker.sequence.jobs import mail_job
from campaign_worker.sequence.scheduler import Scheduler
from campaign_worker.storage.recovery import whole_rows
from metrics import Event, RowsReconciled
from tests.integration.delivery.kit import Job
from tests.integration.storage.kit import Seeded, World, inline, world_of
from tests.support import eventually

QUEUE = "campaign"


class Yard:
    """Rows and jobs of one queue, with a reconciler over both."""

    def __init__(self, world: World, client: redis.asyncio.Redis, prefix: str) -> None:
        self.world = world
        self.client = client
        self.keys = QueueKeys(QUEUE, prefix)
        self.producer = Producer(client, QUEUE, prefix)
        self.queue = MailQueue(client, QUEUE, prefix)
        self.epochs = QueueEpochs(client, [QUEUE], prefix)
        whole = partial(whole_rows, world.database)
        self.scheduler = Scheduler(lambda _name: self.queue, QUEUE, self.epochs, whole)
        self.recovery = world.recovery(overdue_seconds=0.0)
        self.told: dict[str, int] = {}
        self.reconciler = Reconciler(
            self.recovery, self.scheduler, self, drain=self._drain, interval_seconds=60.0
        )

    async def _drain(self) -> None:
        return

    def on_event(self, event: Event) -> None:
        assert isinstance(event, RowsReconciled)
        self.told[event.kind] = self.told.get(event.kind, 0) + event.count

    async def rows(self, count: int, *, status: str = "running") -> Seeded:
        campaign = await self.world.campaign(count, status=status)
        await self.world.campaigns.fan_out(campaign.id, QUEUE)
        return campaign

    async def add(self, campaign: Seeded, **options: Any) -> list[str]:
        """Add the jobs of a campaign as a Node app does."""
        jobs = [mail_job(campaign.id, recipient, 0) for recipient in campaign.recipients]
        return await self.producer.add_many(
            [JobSpec(job.name, job.data, job.id, **options) for job in jobs]
        )

    async def known_as(self, campaign: Seeded, job_id: str) -> None:
        """Let the campaign's row have been claimed by a job of this id."""
        await self.world.execute(
            "UPDATE $messages SET job_id = $2 WHERE campaign_id = $1", campaign.id, job_id
        )

    async def counts(self) -> dict[str, int]:
        return {state: count for state, count in (await self.producer.counts()).items() if count}


@pytest.fixture
async def yard(
    database_url: str, redis_client: redis.asyncio.Redis, prefix: str
) -> AsyncIterator[Yard]:
    async with world_of(database_url) as world:
        yard = Yard(world, redis_client, prefix)
        # What a first look at an empty queue would do is not what these tests are about.
        await Restoring(yard.recovery, yard.scheduler).step()
        yield yard


async def finished(yard: Yard, job_id: str, kind: str) -> None:
    """Do to a job in wait what its end does."""
    await yard.client.lrem(yard.keys.of("wait"), 0, job_id)
    await yard.client.zadd(yard.keys.of(kind), {job_id: 1})
    ended = {"finishedOn": "1", "processedOn": "1", "atm": "3", "failedReason": "x"}
    await yard.client.hset(yard.keys.job(job_id), mapping=ended)


@pytest.mark.parametrize("by_node", [False, True], ids=["our id", "an id that Node chose"])
@pytest.mark.parametrize("fate", ["completed", "failed", "orphaned", "absent"])
async def test_a_due_row_whose_job_is_lost_or_over_gets_it_back_once(
    yard: Yard, fate: str, *, by_node: bool
) -> None:
    campaign = await yard.rows(1)
    ours = mail_job(campaign.id, campaign.recipients[0], 0)
    job_id = await yard.producer.add(ours.name, ours.data, job_id=None if by_node else ours.id)
    assert job_id.isdigit() is by_node
    await yard.known_as(campaign, job_id)
    match fate:
        case "orphaned":
            await yard.client.lrem(yard.keys.of("wait"), 0, job_id)
        case "absent":
            await yard.client.lrem(yard.keys.of("wait"), 0, job_id)
            await yard.client.delete(yard.keys.job(job_id))
        case kind:
            await finished(yard, job_id, kind)
    for _ in range(3):
        await yard.reconciler.tick()
    assert yard.told == {"job_revived": 1}
    assert await yard.counts() == {"waiting": 1}
    expected = ours.id if fate == "absent" else job_id
    assert await yard.client.lrange(yard.keys.of("wait"), 0, -1) == [expected]
    assert "finishedOn" not in await yard.client.hgetall(yard.keys.job(expected))
    # The row knows its attempts; the job may try as often as it is let.
    assert "atm" not in await yard.client.hgetall(yard.keys.job(expected))


async def test_what_is_on_its_way_is_left_alone(yard: Yard) -> None:
    campaign = await yard.rows(5)
    waiting, active, delayed, urgent, locked = await yard.add(campaign)
    wait = yard.keys.of("wait")
    for job_id, kind in ((delayed, "delayed"), (urgent, "prioritized")):
        await yard.client.lrem(wait, 0, job_id)
        await yard.client.zadd(yard.keys.of(kind), {job_id: 1})
    for job_id in (active, locked):
        await yard.client.lrem(wait, 0, job_id)
    await yard.client.lpush(yard.keys.of("active"), active)
    await yard.client.set(yard.keys.lock(locked), "token")
    await yard.reconciler.tick()
    assert yard.told == {}
    assert await yard.client.lrange(wait, 0, -1) == [waiting]


async def test_lists_are_read_in_pages_and_not_searched_per_job(yard: Yard) -> None:
    campaign = await yard.rows(3000)
    await yard.add(campaign)
    # Others came first: the oldest end of the list is not ours.
    await yard.client.rpush(yard.keys.of("wait"), *(f"other-{n}" for n in range(12_000)))
    before = await calls(yard)
    await yard.reconciler.tick()
    after = await calls(yard)
    assert yard.told == {}
    searched = after.get("lpos", 0) - before.get("lpos", 0)
    pages = after["lrange"] - before["lrange"]
    trips = after["evalsha"] - before["evalsha"]
    assert searched <= 3, "once a list, to begin where they are"
    assert pages <= 10
    assert trips <= 3000 / 500 + 5


async def test_the_lost_job_of_a_long_list_is_found_without_reading_all_of_it(yard: Yard) -> None:
    campaign = await yard.rows(1000)
    lost, *_ = await yard.add(campaign)
    wait = yard.keys.of("wait")
    await yard.client.rpush(wait, *(f"older-{n}" for n in range(100_000)))
    await yard.client.lrem(wait, 0, lost)
    before = await calls(yard)
    await yard.reconciler.tick()
    after = await calls(yard)
    assert yard.told == {"job_revived": 1}
    assert await yard.client.lpos(wait, lost) is not None
    # In the look for those in need, and in the one before they are served.
    assert after["lrange"] - before["lrange"] <= 2 * 5


async def calls(yard: Yard) -> dict[str, int]:
    stats: dict[str, Any] = await yard.client.info("commandstats")
    return {name.removeprefix("cmdstat_"): each["calls"] for name, each in stats.items()}


async def test_a_job_that_leaves_the_list_between_two_pages_is_not_added_twice(
    yard: Yard,
) -> None:
    campaign = await yard.rows(2)
    first, second = await yard.add(campaign)
    survey = yard.queue.survey()
    assert await survey.look([first]) == [Standing.UNDERWAY]
    await yard.client.lrem(yard.keys.of("wait"), 0, second)
    assert await survey.look([first, second]) == [Standing.UNDERWAY, Standing.UNDERWAY]
    assert await yard.queue.survey().look([first, second]) == [
        Standing.UNDERWAY,
        Standing.UNLISTED,
    ]


async def test_after_a_flushall_every_scheduled_row_has_a_job_at_the_next_look(
    yard: Yard,
) -> None:
    due, later = await yard.rows(3), await yard.rows(2)
    await yard.add(due)
    await yard.world.execute(
        "UPDATE $messages SET due_at = now() + interval '1 hour' WHERE campaign_id = $1", later.id
    )
    await yard.reconciler.tick()
    assert yard.told == {}, "that later rows have no job yet is nobody's fault"
    for key in [key async for key in yard.client.scan_iter(f"{yard.keys.prefix}:*")]:
        await yard.client.delete(key)
    await yard.reconciler.tick()
    assert yard.told["job_restored"] == 5
    assert await yard.counts() == {"waiting": 3, "delayed": 2}
    await yard.reconciler.tick()
    assert yard.told["job_restored"] == 5


async def test_a_self_contained_mail_survives_a_flushall_from_its_first_claim_on(
    yard: Yard,
) -> None:
    claim = await yard.world.claimed(inline("key", to=("a@example.com", "b@example.com")))
    await yard.world.settle(claim, MarkReleased("interrupted"))
    for key in [key async for key in yard.client.scan_iter(f"{yard.keys.prefix}:*")]:
        await yard.client.delete(key)
    await yard.reconciler.tick()
    assert yard.told == {"job_restored": 1}
    (job_id,) = await yard.client.lrange(yard.keys.of("wait"), 0, -1)
    name, data = await yard.client.hmget(yard.keys.job(job_id), ["name", "data"])
    ids = {"queue": QUEUE, "job_id": job_id, "timestamp_ms": 5}
    assert parse(name, json.loads(data), **ids) == inline(
        "key", to=("a@example.com", "b@example.com")
    )


async def test_a_snapshot_from_before_the_last_look_is_noticed(yard: Yard) -> None:
    key = f"{yard.keys.prefix}:campaign-worker:epoch:{QUEUE}"
    await yard.reconciler.tick()
    old = await yard.client.get(key)
    await yard.reconciler.tick()
    campaign = await yard.rows(2)
    await yard.world.execute("UPDATE $messages SET due_at = now() + interval '1 hour'")
    await yard.reconciler.tick()
    assert yard.told == {}
    await yard.client.set(key, old)
    await yard.reconciler.tick()
    assert yard.told == {"job_restored": len(campaign.recipients)}


async def test_the_jobs_of_a_campaign_that_the_app_resumes_run_at_once(yard: Yard) -> None:
    paused = await yard.rows(3, status="paused")
    jobs = await yard.add(paused, delay_ms=6 * 3600 * 1000)
    await yard.reconciler.tick()
    assert await yard.counts() == {"delayed": 3}
    await yard.world.execute("UPDATE $campaigns SET status = 'running'")
    await yard.reconciler.tick()
    assert yard.told == {"job_woken": 3}
    assert sorted(await yard.client.lrange(yard.keys.of("wait"), 0, -1)) == sorted(jobs)


async def test_jobs_of_a_resting_campaign_are_put_off_together_and_others_keep_their_order(
    yard: Yard,
) -> None:
    paused, other = await yard.rows(2 * LOOK, status="paused"), await yard.rows(5)
    theirs = await yard.add(other)
    ours = await yard.add(paused)
    # Two of the other campaign's jobs lie in the midst of ours.
    wait = yard.keys.of("wait")
    for job_id in theirs[:2]:
        await yard.client.lrem(wait, 0, job_id)
        await yard.client.linsert(wait, "BEFORE", ours[LOOK // 2], job_id)
    order = [one for one in await yard.client.lrange(wait, 0, -1) if one in theirs]
    resting = Resting(lambda _name: yard.queue)
    await resting.start()
    resting.note(QUEUE, paused.id)
    await eventually(lambda: _counts(yard, {"waiting": 5, "delayed": 2 * LOOK}))
    await resting.stop()
    assert await yard.client.lrange(wait, 0, -1) == order
    scores = await yard.client.zrange(yard.keys.of("delayed"), 0, -1, withscores=True)
    seconds, micros = await yard.client.time()
    in_seconds = [score / 0x1000 / 1000 - seconds - micros / 1e6 for _, score in scores]
    assert 440 < min(in_seconds) < 500
    assert 650 < max(in_seconds) < 751
    # Their rows may not exist: it is noted which jobs they are.
    await yard.world.execute("UPDATE $campaigns SET status = 'running'")
    await yard.world.execute("UPDATE $messages SET state = 'skipped', reason = 'test'")
    while await yard.reconciler.tick():
        assert await yard.counts()
    assert (await yard.counts())["waiting"] == 2 * LOOK + 5


async def test_of_jobs_that_were_put_off_only_those_that_come_first_are_forgotten(
    yard: Yard,
) -> None:
    noted, text = f"{yard.keys.base}aside:7", load_scripts()["callBack"].text
    await yard.client.rpush(noted, "b", "c", "d")
    # Another replica has called "a" back, and forgotten it, since both have read the list.
    assert await yard.client.eval(text, 1, noted, "a", "b") == 0
    assert await yard.client.eval(text, 1, noted, "b", "c", "x") == 2
    assert await yard.client.lrange(noted, 0, -1) == ["d"]


async def test_only_jobs_of_ours_that_name_the_campaign_are_put_off(yard: Yard) -> None:
    campaign = await yard.rows(1, status="paused")
    number = campaign.id
    named = {"campaignId": number, "recipientId": 1}
    kept = [
        JobSpec("send-report", named, "another-workers"),
        JobSpec("send-email", {"campaignId": number * 10, "recipientId": 1}, "another-campaigns"),
        JobSpec("send-email", {"to": "a@b.example", "text": f'"campaignId":{number}'}, "a-text"),
        JobSpec("send-email", {"x": {"campaignId": number}}, "nested"),
        JobSpec("send-email", [number], "a-list"),
    ]
    moved = [
        JobSpec("send-email", named, "plain"),
        JobSpec("follow-up", {"campaign_id": str(number), "recipient_id": "2"}, "snake"),
    ]
    await yard.producer.add_many([*kept, *moved])
    _, count = await yard.queue.put_off(number, delay_seconds=60.0, spread_seconds=0.0)
    assert count == 2
    assert set(await yard.client.zrange(yard.keys.of("delayed"), 0, -1)) == {"plain", "snake"}
    assert await yard.client.llen(yard.keys.of("wait")) == len(kept)
    _, count = await yard.queue.put_off(number, delay_seconds=60.0, spread_seconds=0.0)
    assert count == 0


async def test_what_is_noted_of_jobs_that_are_put_off_again_and_again_stays_bounded(
    yard: Yard,
) -> None:
    campaign = await yard.rows(20, status="paused")
    await yard.add(campaign)
    for _ in range(5):
        counts = await yard.queue.put_off(campaign.id, delay_seconds=60.0, spread_seconds=0.0)
        assert counts[1] == 20
        await yard.queue.promote(await yard.client.zrange(yard.keys.of("delayed"), 0, -1))
    await yard.queue.put_off(campaign.id, delay_seconds=60.0, spread_seconds=0.0)
    (noted,) = [key async for key in yard.client.scan_iter(f"{yard.keys.base}aside:*")]
    assert await yard.client.llen(noted) <= 40
    assert await yard.queue.call_back(campaign.id, 100) == 20
    assert await yard.counts() == {"waiting": 20}


async def _counts(yard: Yard, expected: dict[str, int]) -> bool:
    return await yard.counts() == expected


async def test_large_mails_of_jobs_that_are_lost_are_not_all_in_hand_at_once(yard: Yard) -> None:
    mails, size = 60, 1_000_000
    await yard.world.execute(
        "INSERT INTO $messages (idempotency_key, queue, inline)"
        " SELECT 'key-' || n, 'campaign', jsonb_build_object("
        " 'to', '[\"a@b.example\"]'::jsonb, 'subject', 's', 'html', NULL, 'text', repeat('x', $2),"
        " 'sender', NULL, 'reply_to', NULL, 'cc', '[]'::jsonb, 'bcc', '[]'::jsonb,"
        " 'headers', '{}'::jsonb, 'attachments', '[]'::jsonb)"
        " FROM generate_series(1, $1) n",
        mails,
        size,
    )
    tracemalloc.start()
    await yard.reconciler.tick()
    lost = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    await yard.reconciler.tick()
    alive = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert yard.told == {"job_revived": mails}
    assert await yard.counts() == {"waiting": mails}
    # Each is there several times while it becomes a job: as JSON, as a mail, as JSON again.
    assert lost < mails * size
    assert alive < size


@pytest.mark.parametrize("opts", [{"priority": -1}, {"priority": 2**21}, {"attempts": 10**30}])
async def test_a_follow_up_whose_job_cannot_be_like_the_one_before_is_left_to_the_reconciler(
    yard: Yard, opts: dict[str, Any]
) -> None:
    """Version 4 takes options that 6 refuses; the mail before it has gone out all the same."""
    campaign = await yard.rows(1)
    (recipient,) = campaign.recipients
    before = Job({}, queue_name=QUEUE, opts=opts)
    await yard.scheduler.add(NextStep(campaign.id, recipient, 1, 0.0), before)
    assert sum((await yard.queue.counts()).values()) == 0
    await yard.scheduler.add(NextStep(campaign.id, recipient, 1, 0.0), Job({}, queue_name=QUEUE))
    assert (await yard.queue.counts())["waiting"] == 1


@pytest.mark.parametrize("emptied", ["all of Redis", "the queue"])
@pytest.mark.parametrize("fate", ["waiting", "completed"])
async def test_a_row_whose_job_s_number_is_another_s_by_now_gets_a_job_of_its_own(
    yard: Yard, fate: str, emptied: str
) -> None:
    """In a queue that was emptied (FLUSHALL, Node's obliterate) BullMQ counts from 1 again."""
    lost, others = await yard.rows(1), await yard.rows(1)
    ours = mail_job(lost.id, lost.recipients[0], 0)
    number = await yard.producer.add(ours.name, ours.data)
    added_ms = int(await yard.client.hget(yard.keys.job(number), "timestamp"))
    claim = await yard.world.ledger.claim(
        lost.request(), "token", JobRef(QUEUE, number, timestamp_ms=added_ms)
    )
    assert isinstance(claim, Claimed)
    await yard.world.settle(claim, MarkReleased("interrupted"))
    gone = f"{yard.keys.prefix}:*" if emptied == "all of Redis" else f"{yard.keys.base}*"
    for key in [key async for key in yard.client.scan_iter(gone)]:
        await yard.client.delete(key)
    theirs = mail_job(others.id, others.recipients[0], 0)
    later = {"timestamp": added_ms + 1}
    assert await yard.producer.add(theirs.name, theirs.data, opts=later) == number
    await yard.world.execute(
        "UPDATE $messages SET state = 'skipped', reason = 'test' WHERE campaign_id = $1", others.id
    )
    if fate == "completed":
        await finished(yard, number, "completed")
    for _ in range(3):
        await yard.reconciler.tick()
    assert yard.told.get("job_restored", 0) + yard.told.get("job_revived", 0) == 1
    waiting = await yard.client.lrange(yard.keys.of("wait"), 0, -1)
    assert waiting == ([ours.id, number] if fate == "waiting" else [ours.id])
