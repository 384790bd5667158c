"""A From that the server refuses: its campaign waits whole, others go on, and it goes out after."""

from __future__ import annotations

from collections import Counter

from campaign_worker.delivery.senders import MOST_REJECTED
from campaign_worker.embedded.smtp_script import Moment, Question
from tests.acceptance.evidence import flawless
from tests.acceptance.site import SENDER, Campaign, Site
from tests.support import eventually

MAILS = 40
CONCURRENCY = 10
MISTYPED = f"bad@{SENDER}"
HELD = 'campaign_worker_intake_held{reason="refused senders of default"}'


async def test_a_refused_sender_loses_no_mail_and_holds_up_no_other_campaign(site: Site) -> None:
    asked: Counter[str] = Counter()

    def refuses(question: Question) -> str | None:
        if question.moment is Moment.MAIL:
            asked[question.sender] += 1
            if question.sender == MISTYPED:
                return f"550 <{MISTYPED}>: no such sender here"
        return None

    site.sink.script = refuses
    mistyped, other = await site.campaign(MAILS), await site.campaign(MAILS)
    await goes_from(site, mistyped, MISTYPED)
    worker = await site.ready("worker", CONCURRENCY=str(CONCURRENCY))
    await site.add(mistyped)
    sender = f"{SENDER} in campaign {mistyped.id}"
    await worker.says("a server takes no mail of a sender: its mails wait", sender=sender)
    await site.add(other)
    await site.accepted(MAILS)
    assert (await worker.health())["held"] == [f"refused senders of default: {sender}"]
    assert await worker.metric(HELD) == 1
    await eventually(lambda: all_wait(site, mistyped), says="every mail waits, with the reason")
    # Those that were under way at first; then one at a time, as often as a rest of a second ends.
    assert asked[MISTYPED] < MAILS

    site.sink.script = None
    await worker.says("a server takes mails of a sender again", sender=sender)
    assert (await site.cli("resume", str(mistyped.id))).code == 0
    assert await site.finished(mistyped) == flawless(MAILS)
    assert await site.finished(other) == flawless(MAILS)
    assert (await worker.health())["held"] == []
    assert await worker.metric(HELD) == 0


async def test_a_sender_whose_every_mail_is_rejected_after_the_dot_loses_few_of_them(
    site: Site,
) -> None:
    def refuses(question: Question) -> str | None:
        if question.moment is Moment.DOT and question.sender == MISTYPED:
            return f"554 Message rejected: {MISTYPED} is not verified"
        return None

    site.sink.script = refuses
    campaign = await site.campaign(2 * MAILS)
    await goes_from(site, campaign, MISTYPED)
    worker = await site.ready("worker", CONCURRENCY=str(CONCURRENCY))
    await site.add(campaign)
    sender = f"{SENDER} in campaign {campaign.id}"
    await worker.says("a server takes no mail of a sender: its mails wait", sender=sender)
    site.sink.script = None
    await worker.says("a server takes mails of a sender again", 20, sender=sender)
    assert (await site.cli("resume", str(campaign.id))).code == 0
    states = (await site.finished(campaign)).states
    # Eleven, those that were on their way, and one for each rest of a second until the cure.
    assert MOST_REJECTED < states["failed"] <= MOST_REJECTED + 1 + CONCURRENCY + 5
    assert states["sent"] == 2 * MAILS - states["failed"]


async def goes_from(site: Site, campaign: Campaign, sender: str) -> None:
    async with site.postgres() as connection:
        await connection.execute(
            "UPDATE campaign_worker.campaigns SET mail_from = $2 WHERE id = $1",
            *(campaign.id, sender),
        )


async def all_wait(site: Site, campaign: Campaign) -> bool:
    async with site.postgres() as connection:
        rows = await connection.fetch(
            "SELECT DISTINCT state, reason, attempts FROM campaign_worker.messages"
            " WHERE campaign_id = $1",
            campaign.id,
        )
        told = await connection.fetchval(
            "SELECT count(*) FROM campaign_worker.messages WHERE campaign_id = $1"
            " AND detail LIKE 'sender refused: mail: 550 %no such sender here'",
            campaign.id,
        )
    counts = await site.job_counts()
    quiet = counts["waiting"] == counts["active"] == 0
    return quiet and told > 0 and [tuple(row) for row in rows] == [("scheduled", None, 0)]
