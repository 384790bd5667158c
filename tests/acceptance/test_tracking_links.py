"""A worker with a tracker sends mails that lead to it; one without sends what the template says."""

from __future__ import annotations

from email import message_from_bytes, policy
from email.message import EmailMessage

from campaign_worker.settings.kinds import SigningKey
from campaign_worker.tracking.tokens import Keyring, TokenKind
from campaign_worker.tracking.urls import TrackingUrls
from tests.acceptance.site import Campaign, Site, SiteMaker

BASE = "https://track.example.org"
SECRET = "signing-secret-of-this-test-0123456789"
RING = Keyring([SigningKey("2026", SECRET)])
URLS = TrackingUrls(BASE, RING)
TRACKED = {"TRACKING_BASE_URL": f"{BASE}/", "TRACKING_SIGNING_KEYS": f"2026:{SECRET}"}
LINK = "https://shop.example/?a=1&b=2"
SOURCE = '<body><a href="https://shop.example/?a=1&amp;b=2">shop</a>{}</body>'
BULK = ("List-Unsubscribe", "List-Unsubscribe-Post", "List-Id", "Feedback-ID", "Auto-Submitted")


async def campaign_of(site: Site, html: str) -> Campaign:
    campaign = await site.campaign(2)
    await site.give_text(campaign, html)
    return campaign


async def received(site: Site, campaign: Campaign) -> list[EmailMessage]:
    await site.add(campaign)
    await site.finished(campaign)
    return [
        message_from_bytes(mail.content, policy=policy.default) for mail in site.mails_to(campaign)
    ]


def html_of(mail: EmailMessage) -> str:
    part = mail.get_body(("html",))
    assert part is not None
    return str(part.get_content()).strip()


async def test_a_worker_with_a_tracker_sends_tracked_mails(make_site: SiteMaker) -> None:
    site = make_site(secrets=(SECRET,), env=TRACKED)
    campaign = await campaign_of(site, SOURCE.format('<a href="{{ unsubscribe_url }}">no</a>'))
    worker = await site.ready("worker")
    mails = await received(site, campaign)
    async with site.postgres() as connection:
        (link,) = await connection.fetch(
            "SELECT l.id, l.url FROM campaign_worker.links l JOIN campaign_worker.campaigns c"
            " USING (template_id) WHERE c.id = $1",
            campaign.id,
        )
        rows = await connection.fetch(
            "SELECT id, message_id FROM campaign_worker.messages WHERE campaign_id = $1",
            campaign.id,
        )
    ids = {row["message_id"]: row["id"] for row in rows}
    assert link["url"] == LINK
    assert len(mails) == len(ids) == 2
    for mail in mails:
        row_id = ids[mail["Message-ID"]]
        clicked = URLS.click(row_id, link_id=link["id"])
        pixel = f'<img src="{URLS.open(row_id)}" width="1" height="1" alt="" style="border:0">'
        out = f'<a href="{URLS.unsubscribe(row_id)}">no</a>'
        assert html_of(mail) == f'<body><a href="{clicked}">shop</a>{out}{pixel}</body>'
        assert RING.read(TokenKind.CLICK, clicked.rpartition("/")[2]).message_id == row_id
        assert [mail[name] for name in BULK] == [
            f"<{URLS.unsubscribe(row_id)}>",
            "List-Unsubscribe=One-Click",
            f"<campaign-{campaign.id}.sender.example>",
            f"campaign-{campaign.id}:step-0:sender.example:campaign-worker",
            "auto-generated",
        ]
    assert not [one for one in worker.records() if "TRACKING" in str(one)]


async def test_a_worker_without_a_tracker_sends_what_the_template_says(site: Site) -> None:
    campaign = await campaign_of(site, SOURCE.format("{{ recipient.id }}"))
    await site.ready("worker")
    mails = await received(site, campaign)
    assert sorted(html_of(mail) for mail in mails) == sorted(
        SOURCE.format(recipient) for recipient in campaign.recipients
    )
    assert [mail[name] for mail in mails for name in BULK] == [None] * (2 * len(BULK))
    async with site.postgres() as connection:
        assert await connection.fetchval("SELECT count(*) FROM campaign_worker.links") == 0
