"""The whole way in a real browser: a mail is opened, its link clicked, its reader unsubscribed."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.acceptance.site import Campaign, Site, SiteMaker
from tests.fixtures import chromium
from tests.support import eventually

SHOTS = Path(__file__).parents[2] / "build" / "screenshots"
KEYS = {"TRACKING_SIGNING_KEYS": "2026:signing-secret-of-this-test-0123456789"}
OFFER = "/offer?of=pears&size=%C3%A9"
MAIL = """<html><body style="font-family: sans-serif">
<h1>Dear {{{{ recipient.email }}}}</h1>
<p>The pears are ripe. <a id="offer" href="{offer}">Have a look</a>, or
<a id="leave" href="{{{{ unsubscribe_url }}}}">unsubscribe</a>.</p>
</body></html>"""
COUNTS = ("open", "unique_open", "machine_open", "click", "unique_click", "machine_click")


class Elsewhere:
    """Where the mail is read, and the shop that it leads to, on one port; keeps who came."""

    def __init__(self) -> None:
        self.url = ""
        self.mail = ""
        self.visits: list[tuple[str, str | None]] = []

    @contextlib.asynccontextmanager
    async def served(self) -> AsyncIterator[None]:
        """Serve until the end of the block."""
        runner = web.ServerRunner(web.Server(self._answer))
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        try:
            yield
        finally:
            await runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        if request.path == "/mail":
            return web.Response(text=self.mail, content_type="text/html")
        if request.path != "/offer":
            return web.Response(status=404)
        self.visits.append((request.raw_path, request.headers.get("Referer")))
        page = "<h1>Pears</h1><p>One euro each.</p>"
        return web.Response(text=page, content_type="text/html")


async def mailed(site: Site, elsewhere: Elsewhere) -> Campaign:
    """Send a campaign with a follow-up to two people; what the first got lies in the mailbox."""
    campaign = await site.campaign(2, follow_up_seconds=3600)
    await site.give_text(campaign, MAIL.format(offer=elsewhere.url + OFFER))
    await site.add(campaign)
    await site.accepted(2)
    await eventually(lambda: _all_sent(site, campaign), 10, says="both rows are settled")
    async with site.postgres() as connection:
        # The mail has lain in its box for an hour: nobody opens one within seconds.
        await connection.execute(
            "UPDATE campaign_worker.messages SET marked_at = marked_at - interval '1 hour',"
            " sent_at = sent_at - interval '1 hour' WHERE state = 'sent'"
        )
    address = campaign.addresses[campaign.recipients[0]]
    [mail] = [one for one in site.mails_to(campaign) if address in one.recipients]
    part = message_from_bytes(mail.content, policy=policy.default).get_body(("html",))
    assert part is not None
    elsewhere.mail = str(part.get_content())
    return campaign


async def _all_sent(site: Site, campaign: Campaign) -> bool:
    async with site.postgres() as connection:
        return bool(
            await connection.fetchval(
                "SELECT count(*) = 2 FROM campaign_worker.messages"
                " WHERE campaign_id = $1 AND step = 0 AND state = 'sent'",
                campaign.id,
            )
        )


async def counts(site: Site, campaign: Campaign) -> dict[str, Any]:
    """Read the campaign's counts that are not nought, and who is suppressed or left out."""
    async with site.postgres() as connection:
        row = await connection.fetchrow(
            "SELECT * FROM campaign_worker.campaign_counts WHERE campaign_id = $1", campaign.id
        )
        assert row is not None
        found = {name: row[f"{name}_count"] for name in COUNTS if row[f"{name}_count"]}
        gone = await connection.fetchval(
            "SELECT array_agg(id ORDER BY id) FROM campaign_worker.recipients"
            " WHERE campaign_id = $1 AND unsubscribed_at IS NOT NULL",
            campaign.id,
        )
        reasons = await connection.fetch("SELECT address, reason FROM campaign_worker.suppressions")
        follow_ups = await connection.fetch(
            "SELECT recipient_id, state, reason FROM campaign_worker.messages"
            " WHERE campaign_id = $1 AND step = 1",
            campaign.id,
        )
    return {
        **found,
        **({"gone": gone} if gone else {}),
        **({"suppressed": {row["address"]: row["reason"] for row in reasons}} if reasons else {}),
        "follow_ups": {row["recipient_id"]: row["reason"] or row["state"] for row in follow_ups},
    }


@pytest.mark.slow
async def test_a_mail_is_opened_clicked_and_unsubscribed_in_a_browser(
    make_site: SiteMaker, tmp_path: Path
) -> None:
    program = chromium.program()
    if program is None:
        pytest.skip("needs chromium (Debian: apt-get install chromium), which is not installed")
    site, elsewhere = make_site(env=KEYS), Elsewhere()
    tracker = await site.ready("tracker", command="track")
    base = f"http://127.0.0.1:{tracker.port}"
    await site.ready("worker", TRACKING_BASE_URL=base)
    async with elsewhere.served(), chromium.browser(program, tmp_path / "browser") as page:
        campaign = await mailed(site, elsewhere)
        first, second = campaign.recipients
        waiting = {first: "scheduled", second: "scheduled"}

        await page.go_to(f"{elsewhere.url}/mail")
        assert await page.value("[...document.images].map((one) => one.naturalWidth)") == [1]
        await page.screenshot(SHOTS / "1-mail.png")
        opened = {"open": 1, "unique_open": 1}
        assert await counts(site, campaign) == {**opened, "follow_ups": waiting}

        await page.click("#offer")
        await page.is_at(elsewhere.url + OFFER)
        await page.screenshot(SHOTS / "2-destination.png")
        # Where the reader came from is nobody's business.
        assert elsewhere.visits == [(OFFER, None)]
        clicked = {**opened, "click": 1, "unique_click": 1}
        assert await counts(site, campaign) == {**clicked, "follow_ups": waiting}

        await page.go_to(f"{elsewhere.url}/mail")
        opened_again = {**clicked, "open": 2}
        assert await counts(site, campaign) == {**opened_again, "follow_ups": waiting}

        leave = await page.value("document.querySelector('#leave').href")
        assert leave.startswith(f"{base}/u/")
        await page.click("#leave")
        await page.is_at(leave)
        await page.screenshot(SHOTS / "3-unsubscribe.png")
        assert await page.value("document.documentElement.lang") == "en"
        assert "Do you want to stop" in await page.text()
        # To look at the page is not to leave.
        assert await counts(site, campaign) == {**opened_again, "follow_ups": waiting}

        await page.click("button")
        await eventually(lambda: _says(page, "You are unsubscribed"), 10)
        await page.screenshot(SHOTS / "4-unsubscribed.png")
        assert await page.value("document.cookie") == ""
        assert await counts(site, campaign) == {
            **opened_again,
            "gone": [first],
            "suppressed": {campaign.addresses[first]: "unsubscribe"},
            "follow_ups": {first: "unsubscribed", second: "scheduled"},
        }
    assert len({shot.read_bytes() for shot in SHOTS.glob("*.png")}) >= 4


async def _says(page: chromium.Page, words: str) -> bool:
    return words in await page.text()
