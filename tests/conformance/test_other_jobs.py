"""Follow-ups that the app schedules itself, and jobs that belong to somebody else."""

from __future__ import annotations

from typing import Any

import pytest

from campaign_worker.embedded.smtp_server import SmtpSink
from tests.conformance.conftest import StartWorker
from tests.conformance.harness import App, Post, job
from tests.support import eventually

pytestmark = pytest.mark.node

RETRIED: dict[str, Any] = {"attempts": 3, "backoff": {"type": "fixed", "delay": 50}}
PARKED_MS = 300_000


async def test_a_follow_up_job_that_the_app_delays_waits_and_adds_no_second_mail(
    app: App, our_worker: StartWorker, post: Post, smtp_sink: SmtpSink
) -> None:
    campaign, (recipient,) = await post.campaign(["r@example.net"], follow_up_delays=[0])
    ids = {"campaignId": campaign, "recipientId": recipient}
    async with our_worker():
        (first,) = await app.add(job(ids, **RETRIED))
        # The worker adds a job of its own for the step, which is due at once.
        await app.settled(completed=2)
        follow_up = {**ids, "step": 1}
        (by_the_app,) = await app.add(job(follow_up, name="follow-up", delay=300, **RETRIED))
        await app.settled(completed=3)
    assert [mail.recipients for mail in smtp_sink.mails] == [("r@example.net",)] * 2
    assert await post.states() == {"sent": 2}
    message_ids = [mail.message_id for mail in smtp_sink.mails]
    for job_id, message_id in zip((first, by_the_app), message_ids, strict=True):
        ended = await app.job(job_id)
        assert ended["returnvalue"] == {"outcome": "sent", "messageId": message_id}
    assert ended["processedOn"] - ended["timestamp"] >= 300


async def test_a_follow_up_job_that_the_app_adds_too_early_waits_until_its_step_is_due(
    app6: App, our_worker: StartWorker, post: Post, smtp_sink: SmtpSink
) -> None:
    campaign, (recipient,) = await post.campaign(["r@example.net"], follow_up_delays=[3600])
    ids = {"campaignId": campaign, "recipientId": recipient}
    async with our_worker():
        await app6.add(job(ids, **RETRIED))
        await app6.settled(completed=1, delayed=1)
        (early,) = await app6.add(job({**ids, "step": 1}, name="follow-up", **RETRIED))
        await app6.settled(completed=1, delayed=2)
    waiting = await app6.job(early)
    assert waiting["attemptsMade"] == 0
    assert abs(waiting["delay"] - 3_600_000) < 60_000
    assert len(smtp_sink.mails) == 1


async def test_jobs_of_unknown_names_fail_at_once_where_the_operator_wants_it(
    app6: App, our_worker: StartWorker, smtp_sink: SmtpSink
) -> None:
    await app6.call("watch")
    async with our_worker(UNKNOWN_JOBS="fail"):
        (foreign,) = await app6.add(job({"report": 7}, name="build-report", **RETRIED))
        await app6.settled(failed=1)
    refused = await app6.job(foreign)
    assert refused["failedReason"].startswith("name: unknown job 'build-report'")
    history = await app6.history(foreign, until="failed")
    assert history == ["added", "waiting", "active", "failed"]
    assert smtp_sink.mails == []


async def test_jobs_of_unknown_names_are_parked_for_five_minutes_at_no_cost(
    app: App, our_worker: StartWorker, smtp_sink: SmtpSink
) -> None:
    data = {"report": 7, "nested": {"keep": ["all"]}}
    await app.call("watch")
    async with our_worker() as worker:
        (foreign,) = await app.add(job(data, name="build-report", **RETRIED))
        await app.settled(delayed=1)
        logged = await eventually(lambda: _parked(worker.logs))
    parked = await app.job(foreign)
    assert (parked["state"], parked["data"]) == ("delayed", data)
    assert (parked["attemptsMade"], parked["failedReason"], parked["stacktraces"]) == (0, None, 0)
    assert abs(parked["processedOn"] + parked["delay"] - parked["timestamp"] - PARKED_MS) < 5000
    assert logged["level"] == "error"
    assert (logged["job_name"], logged["job_id"]) == ("build-report", foreign)
    assert smtp_sink.mails == []


def _parked(logs: list[dict[str, Any]]) -> dict[str, Any]:
    (record,) = [one for one in logs if "unknown name parked" in str(one.get("message"))]
    return record
