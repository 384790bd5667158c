"""Mails that ran out of attempts: an operator sees them, and sends them after all."""

from __future__ import annotations

import json
from typing import Any

from bullmq import Job, Queue

from campaign_worker.embedded.smtp_script import Moment, Reply, by_recipient, first_of
from campaign_worker.sequence.jobs import mail_job
from tests.acceptance.site import QUEUE, Campaign, Site
from tests.support import eventually

ATTEMPTS = 3


async def test_an_operator_retries_what_ran_out_of_attempts_and_never_what_bounced(
    site: Site,
) -> None:
    campaign = await site.campaign(4)
    greylisted, dead = campaign.recipients[:2]
    busy = {campaign.addresses[greylisted]: Reply("451 4.3.0 not now")}
    gone = {campaign.addresses[dead]: Reply("550 5.1.1 no such user")}
    site.sink.script = first_of(
        by_recipient(Moment.RCPT, busy, tries=ATTEMPTS), by_recipient(Moment.RCPT, gone)
    )
    await site.ready("worker")
    await site.add(campaign)
    (row,) = await eventually(lambda: failed(site, campaign), 15, says="a mail is exhausted")
    assert (row["recipient_id"], row["reason"], row["attempts"]) == (greylisted, "exhausted", 3)
    assert "451" in row["detail"]
    await site.accepted(2)

    retried = await site.cli("failed", "retry", "--all")
    assert retried.stdout == "1 mail will be tried again\n"
    await site.accepted(3)
    verdict = await site.finished(campaign)
    assert verdict.states == {"sent": 3, "failed": 1}
    assert (await site.cli("failed", "retry", "--all")).stdout == "0 mails will be tried again\n"
    again = await site.cli("failed", "retry", str(row["id"]))
    assert (again.code, again.stdout) == (0, "0 mails will be tried again\n")
    assert again.stderr.startswith("1 of the rows named left as they were: ")


async def test_a_job_that_somebody_retries_after_its_last_attempt_sends_its_mail(
    site: Site,
) -> None:
    campaign = await site.campaign(2)
    greylisted, dead = campaign.recipients
    busy = {campaign.addresses[greylisted]: Reply("451 4.3.0 not now")}
    gone = {campaign.addresses[dead]: Reply("550 5.1.1 no such user")}
    site.sink.script = first_of(
        by_recipient(Moment.RCPT, busy, tries=ATTEMPTS), by_recipient(Moment.RCPT, gone)
    )
    await site.ready("worker")
    await site.add(campaign)
    await eventually(lambda: both_failed(site), 15, says="both jobs failed")
    queue = Queue(QUEUE, {"connection": site.redis_url, "prefix": site.prefix})
    for recipient in campaign.recipients:
        job = await Job.fromId(queue, mail_job(campaign.id, recipient, 0).id)
        assert job is not None
        await job.retry("failed")
    await queue.close()
    await site.accepted(1)
    verdict = await site.finished(campaign)
    assert verdict.states == {"sent": 1, "failed": 1}
    bounced = await site.job(campaign, dead)
    assert bounced["failedReason"].startswith("hard_bounce")


async def test_retry_wants_to_be_told_which_mails_are_meant(site: Site) -> None:
    result = await site.cli("failed", "retry")
    assert (result.code, result.stdout) == (2, "")
    assert "exactly one of these" in result.stderr


async def failed(site: Site, campaign: Campaign) -> list[dict[str, Any]]:
    """Ask the command."""
    result = await site.cli("failed", "list", "--campaign", str(campaign.id), "--json")
    rows: list[dict[str, Any]] = json.loads(result.stdout)["failed"]
    return rows


async def both_failed(site: Site) -> bool:
    return (await site.job_counts())["failed"] == 2
