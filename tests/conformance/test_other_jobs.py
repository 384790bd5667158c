"""Follow-ups that the app schedules itself, and jobs that belong to somebody else."""

from __future__ import annotations

from typing import Any

import pytest

from campaign_worker.embedded.smtp_server import SmtpSink
from tests.conformance.conftest import StartWorker
from tests.conformance.harness import App, Post, job
from tests.support import eventually

pytestmark = pytest.mark.node

RETRIED = {"attempts": 3, "backoff": {"type": "fixed", "delay": 50}}
PARKED_MS = 300_000
# A worker of 4.x queues looks by itself every second: 4.x wakes nobody (docs/conformance.md).
V4_LOOKS_EVERY_MS = 1000


async def test_follow_ups_that_the_app_delays_go_out_when_due_and_unknown_jobs_can_be_failed(
    app: App, our_worker: StartWorker, post: Post, smtp_sink: SmtpSink
) -> None:
    campaign, (recipient,) = await post.campaign(["r@example.net"], follow_up_delays=[0])
    ids = {"campaignId": campaign, "recipientId": recipient}
    await app.call("watch")
    async with our_worker(UNKNOWN_JOBS="fail"):
        first, later, foreign = await app.add(
            job(ids, **RETRIED),
            job({**ids, "step": 1}, name="follow-up", delay=600, jobId="by-the-app", **RETRIED),
            job({"report": 7}, name="build-report", **RETRIED),
        )
        # The worker adds a job of its own for the step; whichever comes first sends, the other finds it sent.
        await app.settled(completed=3, failed=1)
    assert [mail.recipients for mail in smtp_sink.mails] == [("r@example.net",)] * 2
    assert await post.states() == {"sent": 2}
    by_the_app = await app.job(later)
    assert by_the_app["returnvalue"]["outcome"] == "sent"
    waited = by_the_app["processedOn"] - by_the_app["timestamp"]
    assert waited >= 600
    assert waited < 600 + V4_LOOKS_EVERY_MS
    assert (await app.job(first))["state"] == "completed"
    refused = await app.job(foreign)
    assert refused["failedReason"].startswith("name: unknown job 'build-report'")
    assert await app.history(foreign) == ["added", "waiting", "active", "failed"]


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
