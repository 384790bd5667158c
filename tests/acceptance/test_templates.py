"""A template meets recipients: their data is in the mail, or the row says what was not."""

from __future__ import annotations

import email
import email.policy

from tests.acceptance.evidence import Verdict
from tests.acceptance.site import Campaign, Site

HTML = "<p>Dear {{ recipient.name }} of <b>{{ city }}</b></p>"


async def test_data_is_in_the_mail_and_what_is_missing_is_named_in_the_row(site: Site) -> None:
    campaign = await site.campaign(2)
    known, unknown = campaign.recipients
    await written(site, campaign, known)
    await site.ready("worker")
    await site.add(campaign)
    verdict = await site.finished(campaign)
    assert verdict == Verdict(accepted=1, states={"sent": 1, "failed": 1}, jobs_failed=1)
    (mail,) = site.mails_to(campaign)
    assert mail.recipients == (campaign.addresses[known],)
    message = email.message_from_bytes(mail.content, policy=email.policy.default)
    html, text = (message.get_body((kind,)) for kind in ("html", "plain"))
    assert html is not None
    assert text is not None
    assert html.get_content().strip() == "<p>Dear Zoë &amp; Co of <b>Ulm</b></p>"
    assert text.get_content().strip() == "Dear Zoë & Co of Ulm"
    async with site.postgres() as connection:
        row = await connection.fetchrow(
            "SELECT reason, detail, attempts FROM campaign_worker.messages WHERE recipient_id = $1",
            unknown,
        )
    assert row is not None
    assert (row["reason"], row["attempts"]) == ("render_error", 0)
    assert "'city'" in row["detail"]
    job = await site.job(campaign, unknown)
    assert "'city'" in job["failedReason"]


async def written(site: Site, campaign: Campaign, known: int) -> None:
    """Give the campaign a template with variables, and one recipient what it asks for."""
    await site.give_text(campaign, HTML)
    async with site.postgres() as connection:
        await connection.execute(
            "UPDATE campaign_worker.recipients SET name = 'Zoë & Co',"
            """ data = CASE id WHEN $2 THEN '{"city": "Ulm"}' ELSE '{}' END::jsonb"""
            " WHERE campaign_id = $1",
            *(campaign.id, known),
        )
