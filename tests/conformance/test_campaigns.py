"""Campaigns that a Node app enqueues and our worker sends."""

from __future__ import annotations

from typing import Any

import pytest

from campaign_worker.embedded.smtp_script import Moment, Script, by_recipient, first_of
from campaign_worker.embedded.smtp_server import SmtpSink
from tests.conformance.conftest import StartNodeWorker, StartWorker
from tests.conformance.harness import App, Post, job
from tests.support import eventually

pytestmark = pytest.mark.node

OPTIONS: dict[str, Any] = {
    "attempts": 3,
    "backoff": {"type": "exponential", "delay": 100},
    "removeOnFail": False,
}
REFERENCE = "reference"
COUNTED = ("state", "attemptsMade", "attemptsStarted", "stacktraces")


def first_mails(campaign: int, recipients: list[int]) -> list[dict[str, Any]]:
    return [job({"campaignId": campaign, "recipientId": one}, **OPTIONS) for one in recipients]


@pytest.mark.feature("`QueueEvents`, `waitUntilFinished`")
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


def once_451_then_kept(temporary: set[str], bounced: set[str]) -> Script:
    """451 to the first try of some, 550 to every try of others."""
    return first_of(
        by_recipient(Moment.RCPT, dict.fromkeys(temporary, "451 4.7.1 come back"), tries=1),
        by_recipient(Moment.RCPT, dict.fromkeys(bounced, "550 5.1.1 no such user")),
    )


@pytest.mark.feature("what the app reads of attempts")
async def test_temporary_refusals_are_retried_and_counted_as_a_node_worker_counts(
    app: App, our_worker: StartWorker, node_worker: StartNodeWorker, post: Post, smtp_sink: SmtpSink
) -> None:
    addresses = [f"r{number}@example.net" for number in range(300)]
    temporary = set(addresses[::3])
    smtp_sink.script = once_451_then_kept(temporary, set())
    campaign, recipients = await post.campaign(addresses)
    await app.call("watch")
    await app.call("watch", REFERENCE)
    async with our_worker(), node_worker(REFERENCE):
        ids = await app.add(*first_mails(campaign, recipients))
        (reference,) = await app.add(
            job({"plan": ["fail", "complete"]}, **OPTIONS), queue=REFERENCE
        )
        await app.settled(completed=300)
        await app.settled(queue=REFERENCE, completed=1)
    assert sorted(smtp_sink.accepted.items()) == sorted((one, 1) for one in addresses)
    assert await post.states() == {"sent": 300}
    by_node = await app.job(reference, queue=REFERENCE)
    told = await app.history(reference, until="completed", queue=REFERENCE)
    done = {one["id"]: one for one in await app.jobs("completed")}
    refused = [one for one, address in zip(ids, addresses, strict=True) if address in temporary]
    for job_id, history in (await app.histories(*refused, until="completed")).items():
        ours = done[job_id]
        assert {key: ours[key] for key in COUNTED} == {key: by_node[key] for key in COUNTED}
        assert "451 4.7.1 come back" in ours["failedReason"]
        assert history == told
    assert "delayed" in told
    assert (by_node["state"], by_node["stacktraces"]) == ("completed", 1)
    # 4.x reads a field that only its own scripts write (docs/conformance.md).
    assert by_node["attemptsMade"] == (0 if app.node.major == 4 else 2)
    failures = await post.rows(
        "SELECT r.email = ANY ($1) AS refused, m.attempts, count(*)"
        " FROM campaign_worker.messages m"
        " JOIN campaign_worker.recipients r ON r.id = m.recipient_id GROUP BY 1, 2 ORDER BY 1",
        sorted(temporary),
    )
    assert failures == [(False, 0, 200), (True, 1, 100)]


async def test_hard_bounces_end_in_suppression_without_a_second_try(
    app: App, our_worker: StartWorker, post: Post, smtp_sink: SmtpSink
) -> None:
    addresses = [f"r{number}@example.net" for number in range(40)]
    bounced = set(addresses[:10])
    smtp_sink.script = once_451_then_kept(set(), bounced)
    campaign, recipients = await post.campaign(addresses)
    await app.call("watch")
    async with our_worker():
        ids = await app.add(*first_mails(campaign, recipients))
        await app.settled(completed=30, failed=10)

        async def finished() -> bool:
            return bool((await post.counts(campaign))["status"] == "completed")

        await eventually(finished)
    assert sorted(smtp_sink.accepted) == sorted(set(addresses) - bounced)
    assert await post.counts(campaign) == {
        "status": "completed",
        "sent_count": 30,
        "failed_count": 10,
        "bounced_count": 10,
    }
    rows = await post.rows(
        "SELECT r.email, m.reason, m.attempts, s.reason FROM campaign_worker.messages m"
        " JOIN campaign_worker.recipients r ON r.id = m.recipient_id"
        " JOIN campaign_worker.suppressions s ON s.address = r.email WHERE m.state = 'failed'"
    )
    assert sorted(rows) == [(one, "hard_bounce", 1, "hard_bounce") for one in sorted(bounced)]
    histories = await app.histories(*ids[:10], until="failed")
    for failed in await app.jobs("failed"):
        assert failed["attemptsMade"] == (0 if app.node.major == 4 else 1)
        assert failed["failedReason"].startswith("hard_bounce")
        assert histories.pop(failed["id"]) == ["added", "waiting", "active", "failed"]
    assert histories == {}
