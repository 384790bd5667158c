"""A Node Worker and ours on one queue, as while an app moves over."""

from __future__ import annotations

from typing import Any

import pytest

from campaign_worker.embedded.smtp_server import SmtpSink
from tests.conformance.conftest import StartNodeWorker, StartWorker
from tests.conformance.features import COMPARED_WITH
from tests.conformance.harness import QUEUE, App, Post, job

pytestmark = pytest.mark.node

OPTIONS: dict[str, Any] = {"attempts": 3, "backoff": {"type": "exponential", "delay": 100}}


@pytest.mark.feature("beside Node's Worker on one queue")
async def test_a_node_worker_and_ours_share_a_queue_and_every_job_runs_once(
    app: App, our_worker: StartWorker, node_worker: StartNodeWorker, post: Post, smtp_sink: SmtpSink
) -> None:
    addresses = [f"r{number}@example.net" for number in range(400)]
    campaign, recipients = await post.campaign(addresses)
    address_of = dict(zip(recipients, addresses, strict=True))
    # A fifth each: plain, late, urgent, and jobs to take first.
    kinds: list[dict[str, Any]] = [
        {},
        {"delay": 100},
        {"priority": 3},
        {"lifo": True},
        {"delay": 50, "priority": 1},
    ]
    jobs = [
        job({"campaignId": campaign, "recipientId": one}, **OPTIONS, **kinds[number % len(kinds)])
        for number, one in enumerate(recipients)
    ]
    # A Worker of 4.x would leave it nothing: none of 4.x wakes another, and theirs are there first.
    major = COMPARED_WITH[app.node.major]
    async with (
        our_worker(QUEUES=f"{QUEUE}:10"),
        node_worker(QUEUE, major=major, pause_ms=5, concurrency=10) as beside,
    ):
        await app.add(*jobs)
        await app.settled(completed=len(jobs))
    by_node = [address_of[run["data"]["recipientId"]] for run in beside.ran]
    by_us = [address for mail in smtp_sink.mails for address in mail.recipients]
    assert sorted(by_node + by_us) == sorted(addresses)
    assert by_node
    assert by_us
    done = await app.jobs("completed")
    assert {one["attemptsStarted"] for one in done} <= {1, None}
    assert await post.states() == {"sent": len(by_us)}
