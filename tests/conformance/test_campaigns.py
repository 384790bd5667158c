"""Campaigns that a Node app enqueues and our worker sends."""

from __future__ import annotations

import pytest

from campaign_worker.embedded.smtp_script import Moment, Question
from campaign_worker.embedded.smtp_server import SmtpSink
from tests.conformance.conftest import StartWorker
from tests.conformance.harness import App, Post, job
from tests.support import eventually

pytestmark = pytest.mark.node

OPTIONS = {
    "attempts": 3,
    "backoff": {"type": "exponential", "delay": 100},
    "removeOnFail": False,
}


def first_mails(campaign: int, recipients: list[int]) -> list[dict[str, object]]:
    return [job({"campaignId": campaign, "recipientId": one}, **OPTIONS) for one in recipients]


async def test_a_thousand_jobs_are_a_thousand_mails_rows_and_results(
    app: App, our_worker: StartWorker, post: Post, smtp_sink: SmtpSink
) -> None:
    addresses = [f"r{number}@example.net" for number in range(1000)]
    campaign, recipients = await post.campaign(addresses)
    await app.call("watch")
    async with our_worker():
        await app.add(*first_mails(campaign, recipients))
        await app.settled(completed=1000)
    assert sorted(smtp_sink.accepted.items()) == sorted((one, 1) for one in addresses)
    assert len(smtp_sink.mails) == 1000
    assert await post.states() == {"sent": 1000}
    counts = await post.counts(campaign)
    assert counts["sent_count"] == 1000
    done = await app.jobs("completed")
    assert {one["returnvalue"]["outcome"] for one in done} == {"sent"}
    message_ids = {one["returnvalue"]["messageId"] for one in done}
    assert message_ids == {mail.message_id for mail in smtp_sink.mails}

    async def all_seen() -> bool:
        tally = await app.call("tally")
        each_once = {"active": 1000, "completed": 1000}
        assert {event: tally["events"].get(event) for event in each_once} == each_once
        assert {event: tally["jobs"].get(event) for event in each_once} == each_once
        return True

    await eventually(all_seen)
