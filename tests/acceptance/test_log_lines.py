"""What a real worker writes: whose mail it was, on lines for machines or for people."""

from __future__ import annotations

from typing import Any

from campaign_worker.embedded.smtp_script import Moment, by_recipient
from campaign_worker.sequence.jobs import mail_job
from tests.acceptance.evidence import Verdict, flawless
from tests.acceptance.site import Campaign, Site
from tests.support import eventually


async def test_each_line_is_json_and_says_whose_mail_did_not_go_out(site: Site) -> None:
    campaign = await bouncing(site)
    worker = await site.ready("worker")
    await site.add(campaign)
    assert await site.finished(campaign) == one_of_two_bounced()
    assert worker.plain_lines() == []
    for line in worker.records():
        assert list(line)[:2] == ["message", "level"]
        assert line["instance"] == "worker"
    told = worker.records("mail not sent")
    assert [without_time(line) for line in told] == [
        {
            "message": "mail not sent",
            "level": "warning",
            "outcome": "hard_bounce",
            "campaign": campaign.id,
            "recipient": campaign.recipients[0],
            "step": 0,
            "queue": "campaign",
            "job_id": mail_job(campaign.id, campaign.recipients[0], 0).id,
            "attempt": 1,
            "instance": "worker",
        }
    ]
    assert worker.records("job failed") == []


async def test_every_mail_has_its_line_at_debug_and_only_there(site: Site) -> None:
    campaign = await site.campaign(2)
    worker = await site.ready("worker", LOG_LEVEL="debug")
    await site.add(campaign)
    assert await site.finished(campaign) == flawless(2)
    ended = await eventually(lambda: worker.records("mail ended"))
    assert {line["recipient"] for line in ended} == set(campaign.recipients)
    assert {line["level"] for line in ended} == {"debug"}
    await worker.kill()
    quiet = await site.ready("quiet", LOG_LEVEL="error")
    assert quiet.output == ""


async def test_lines_for_people_are_text_and_name_the_mail_too(site: Site) -> None:
    campaign = await bouncing(site)
    worker = await site.ready("worker", LOG_FORMAT="console")
    await site.add(campaign)
    assert await site.finished(campaign) == one_of_two_bounced()
    assert worker.records() == []
    (told,) = [line for line in worker.plain_lines() if "mail not sent" in line]
    assert f"recipient={campaign.recipients[0]}" in told
    assert "outcome=hard_bounce" in told


async def bouncing(site: Site) -> Campaign:
    """Return a campaign of two, the first of whom does not exist."""
    campaign = await site.campaign(2)
    nobody = campaign.addresses[campaign.recipients[0]]
    site.sink.script = by_recipient(Moment.RCPT, {nobody: f"550 5.1.1 <{nobody}> is unknown"})
    return campaign


def one_of_two_bounced() -> Verdict:
    return Verdict(accepted=1, states={"sent": 1, "failed": 1}, attempts_changed=1, jobs_failed=1)


def without_time(line: dict[str, Any]) -> dict[str, Any]:
    return {key: line[key] for key in line if key != "timestamp"}
