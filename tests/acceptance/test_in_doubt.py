"""Mails whose 250 never came: held for an operator, whose word ends them; or resent by policy."""

from __future__ import annotations

import json
from typing import Any

from campaign_worker.embedded.smtp_script import Hangup, Moment, by_recipient
from tests.acceptance.site import Campaign, Site
from tests.support import eventually, run_cli

RECIPIENTS = 6


async def test_an_operator_ends_the_doubts_and_the_campaign_completes(site: Site) -> None:
    campaign = await site.campaign(RECIPIENTS)
    arrived, lost, hopeless = campaign.recipients[:3]
    addresses = campaign.addresses
    # The first was kept and only its 250 is missing; the other two never arrived.
    hangups = {addresses[arrived]: Hangup(accept=True)}
    hangups |= {addresses[one]: Hangup() for one in (lost, hopeless)}
    site.sink.script = by_recipient(Moment.DOT, hangups, tries=1)
    await site.ready("worker", RECONCILE_INTERVAL_SECONDS="0.2")
    await site.add(campaign)
    rows = await eventually(lambda: doubts(site, campaign, 3), 15, says="three mails are in doubt")
    ids = {row["recipient_id"]: str(row["id"]) for row in rows}
    assert all(row["message_id"] for row in rows)

    assert await said(site, "mark-sent", ids[arrived]) == "1 mail marked as sent"
    assert await said(site, "mark-failed", ids[hopeless]) == "1 mail marked as failed"
    assert await said(site, "resend", "--all") == "1 mail will be sent again"

    assert await eventually(lambda: completed(site, campaign), 15, says="it is completed")
    sent = sorted(mail.recipients[0] for mail in site.mails_to(campaign))
    everybody_else = [addresses[one] for one in campaign.recipients if one != hopeless]
    assert sent == sorted(everybody_else)
    assert await doubts(site, campaign, 0) == []


async def test_policy_resend_sends_the_same_bytes_again(site: Site) -> None:
    campaign = await site.campaign(1)
    (address,) = campaign.addresses.values()
    site.sink.script = by_recipient(Moment.DOT, {address: Hangup(accept=True)}, tries=1)
    await site.ready("worker", AMBIGUOUS_SEND="resend")
    await site.add(campaign)
    await site.accepted(2)
    first, second = site.mails_to(campaign)
    assert first.content == second.content
    assert await eventually(lambda: sent(site, campaign), says="the row is sent")


async def doubts(site: Site, campaign: Campaign, count: int) -> list[dict[str, Any]] | None:
    """Ask the command; None unless it names so many."""
    # Not by the site, whose outputs must not show the sender's domain: a Message-ID has it.
    arguments = ("in-doubt", "list", "--campaign", str(campaign.id), "--json")
    result = await run_cli(*arguments, env=site.env)
    rows: list[dict[str, Any]] = json.loads(result.stdout)["in_doubt"]
    return rows if len(rows) == count else None


async def said(site: Site, *arguments: str) -> str:
    return (await site.cli("in-doubt", *arguments)).stdout.strip()


async def completed(site: Site, campaign: Campaign) -> bool:
    async with site.postgres() as connection:
        status = await connection.fetchval(
            "SELECT status FROM campaign_worker.campaigns WHERE id = $1", campaign.id
        )
    return bool(status == "completed")


async def sent(site: Site, campaign: Campaign) -> bool:
    async with site.postgres() as connection:
        count = await connection.fetchval(
            "SELECT sent_count FROM campaign_worker.campaign_counts WHERE campaign_id = $1",
            campaign.id,
        )
    return bool(count == 1)
