"""Order, delays, pauses and the sight of workers, as each BullMQ version sets them."""

from __future__ import annotations

from typing import Any

import pytest
import redis.asyncio

from campaign_worker.embedded.smtp_script import Moment, by_recipient
from campaign_worker.embedded.smtp_server import SmtpSink
from tests.conformance.conftest import StartWorker
from tests.conformance.harness import QUEUE, App, job
from tests.support import eventually

pytestmark = pytest.mark.node

# 4.x wakes no idle worker: ours looks by itself this often (docs/conformance.md).
V4_LOOKS_EVERY_MS = 1000
SLACK_MS = 600
CLOCKS_MS = 20


def mail(name: str, **opts: Any) -> dict[str, Any]:
    data = {"to": f"{name}@example.net", "subject": name, "text": "T"}
    return job(data, jobId=f"job-{name}", **opts)


def names(sink: SmtpSink) -> list[str]:
    return [one.recipients[0].partition("@")[0] for one in sink.mails]


@pytest.mark.feature("priorities and LIFO")
async def test_jobs_run_in_the_order_that_lifo_and_priority_ask_for(
    app: App, our_worker: StartWorker, smtp_sink: SmtpSink
) -> None:
    await app.add(
        mail("low", priority=9),
        mail("first"),
        mail("second"),
        mail("high", priority=1),
        mail("jumped-in", lifo=True),
        mail("middle", priority=5),
    )
    async with our_worker(QUEUES=f"{QUEUE}:1"):
        await app.settled(completed=6)
    assert names(smtp_sink) == ["jumped-in", "first", "second", "high", "middle", "low"]


@pytest.mark.feature("idle workers wake at once, delayed jobs are in time")
async def test_delayed_and_urgent_jobs_reach_an_idle_worker_in_time(
    app: App, our_worker: StartWorker
) -> None:
    late = SLACK_MS + (V4_LOOKS_EVERY_MS if app.node.major == 4 else 0)
    async with our_worker():
        await app.add(mail("warm-up"))
        await app.settled(completed=1)
        kinds: dict[str, dict[str, int]] = {
            "plain": {},
            "urgent": {"priority": 2},
            "delayed": {"delay": 300},
        }
        for name, opts in kinds.items():
            (job_id,) = await app.add(mail(name, **opts))
            ended = await app.ended(job_id)
            waited = ended["processedOn"] - ended["timestamp"]
            due = opts.get("delay", 0)
            # Node's clock wrote one of the times and Redis' the other.
            assert due - CLOCKS_MS <= waited < due + late, name


@pytest.mark.feature("pause and resume of the queue")
async def test_nothing_is_lost_that_falls_due_while_the_queue_is_paused(
    app: App,
    our_worker: StartWorker,
    smtp_sink: SmtpSink,
    redis_client: redis.asyncio.Redis,
    prefix: str,
) -> None:
    refused = {"retried@example.net", "put-off@example.net"}
    answers = dict.fromkeys(refused, "451 4.3.0 later")
    smtp_sink.script = by_recipient(Moment.DOT, answers, tries=1)

    async def all_fell_due() -> bool:
        delayed = await redis_client.zcard(f"{prefix}:{QUEUE}:delayed")
        active = await redis_client.llen(f"{prefix}:{QUEUE}:active")
        assert (delayed, active) == (0, 0)
        return True

    async with our_worker(INSTANCE_ID="old"):
        smtp_sink.hold()
        await app.add(mail("retried", attempts=3), mail("put-off", attempts=3, backoff=50))
        await smtp_sink.wait_at_dot(2)
        await app.add(mail("delayed", delay=50))
        await app.call("pause")
        smtp_sink.release()
        await app.add(mail("while-paused"), mail("urgent", priority=1), mail("later", delay=50))
        # A replica that starts looks at the queue at once, the other one only now and then.
        async with our_worker(INSTANCE_ID="new"):
            await eventually(all_fell_due, 10)
            assert await app.call("isPaused")
            assert names(smtp_sink) == []
            await app.call("resume")
            await app.settled(completed=6)
    assert sorted(names(smtp_sink)) == sorted(
        ["retried", "put-off", "delayed", "while-paused", "urgent", "later"]
    )
    for name, attempts in {"retried": 2, "put-off": 2, "delayed": 1}.items():
        made = (await app.job(f"job-{name}"))["attemptsMade"]
        assert made == (0 if app.node.major == 4 else attempts), name


@pytest.mark.feature("pause and resume of the queue")
async def test_a_flow_parent_whose_child_ends_while_paused_is_not_lost(
    app: App, our_worker: StartWorker, smtp_sink: SmtpSink
) -> None:
    child, parent = mail("child"), mail("parent")
    tree = {**parent, "queueName": QUEUE, "children": [{**child, "queueName": QUEUE}]}
    async with our_worker():
        smtp_sink.hold()
        await app.call("flow", tree)
        await smtp_sink.wait_at_dot(1)
        await app.call("pause")
        # 4.x and 5.x keep what waits aside while paused, and put it back over what came meanwhile.
        await app.add(mail("beside"))
        smtp_sink.release()
        await app.ended("job-child")
        assert names(smtp_sink) == ["child"]
        await app.call("resume")
        await app.settled(completed=3)
    assert sorted(names(smtp_sink)) == ["beside", "child", "parent"]


@pytest.mark.feature("`Queue.getWorkers`, `processedBy`, after a reconnect too")
async def test_the_app_sees_the_worker_and_whose_each_job_was(
    app: App, our_worker: StartWorker
) -> None:
    async with our_worker(INSTANCE_ID="replica-7"):
        await app.add(mail("a"))
        await app.settled(completed=1)
        workers = [one["rawname"] for one in await app.call("workers")]
        done = await app.job("job-a")
    named = [one for one in workers if one.endswith(":w:replica-7")]
    # 4.x knows neither names of workers nor the field.
    expected = (0, None) if app.node.major == 4 else (1, "replica-7")
    assert (len(named), done["processedBy"]) == expected
    assert len(workers) == len(named)
    assert await app.call("workers") == []
