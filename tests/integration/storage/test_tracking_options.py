"""Claims of tracked campaigns: links have rows before a mail can lead to them, each once."""

from __future__ import annotations

import asyncio
import uuid
from email import message_from_bytes, policy
from email.message import EmailMessage

from campaign_worker.delivery.claims import CampaignContent, Claimed, Tracking
from campaign_worker.delivery.model import Template
from campaign_worker.delivery.settlements import MarkReleased
from campaign_worker.mail.compose import ComposerOptions, MailComposer, normalize
from campaign_worker.mail.template_links import static_links
from campaign_worker.settings.kinds import SigningKey
from campaign_worker.storage.claim import Claimer
from campaign_worker.storage.claim_items import ClaimItem
from campaign_worker.storage.database import Database
from campaign_worker.tracking.tokens import Keyring, Token, TokenKind
from campaign_worker.tracking.urls import TrackingUrls
from tests.integration.storage.kit import JOB, LEASE_SECONDS, Seeded, World

A, B, C = "https://a.example/?x=1&y=2", "https://b.example/", "https://c.example/t"
HTML = (
    '<body><a href="https://a.example/?x=1&amp;y=2">a</a><a href="https://b.example/">b</a>'
    '<a href="https://d.example/{{ email }}">d</a>'
    '<a href="{{ unsubscribe_url }}">no more</a></body>'
)
TEXT = f"See {C}. No more: {{{{ unsubscribe_url }}}}"
RING = Keyring([SigningKey("k1", "s" * 32)])
URLS = TrackingUrls("https://t.example.org", RING)


def claimer_of(database: Database, *, tracking: bool = True) -> Claimer:
    return Claimer(
        database,
        lease_seconds=LEASE_SECONDS,
        normalize=normalize,
        static_links=static_links if tracking else None,
    )


async def campaign_of(world: World, html: str | None = HTML, text: str | None = TEXT) -> Seeded:
    campaign = await world.campaign(2)
    template = await world.value(
        "INSERT INTO $templates (subject, html, text) VALUES ('s', $1, $2) RETURNING id", html, text
    )
    await world.execute(
        "UPDATE $campaigns SET template_id = $1 WHERE id = $2", template, campaign.id
    )
    return campaign


async def claimed(claimer: Claimer, campaign: Seeded, index: int = 0) -> Claimed:
    item = ClaimItem(campaign.request(index), str(uuid.uuid4()), JOB)
    (claim,) = await claimer.execute([item])
    assert isinstance(claim, Claimed), claim
    return claim


def tracking_of(claim: Claimed) -> Tracking:
    assert isinstance(claim.content, CampaignContent)
    return claim.content.tracking


async def link_rows(world: World) -> list[tuple[int, str]]:
    rows = await world.rows("SELECT position, url FROM $links ORDER BY template_id, position")
    return [(row["position"], row["url"]) for row in rows]


async def test_links_have_rows_when_a_claim_is_answered(world: World) -> None:
    claim = await claimed(claimer_of(world.database), await campaign_of(world))
    assert await link_rows(world) == [(0, A), (1, B), (2, C)]
    ids = [row["id"] for row in await world.rows("SELECT id FROM $links ORDER BY position")]
    assert tracking_of(claim) == Tracking(opens=True, clicks=True, text=False, link_ids=tuple(ids))


async def test_links_are_registered_once_by_all_replicas(world: World) -> None:
    campaign = await campaign_of(world)
    claims = await asyncio.gather(
        *(claimed(claimer_of(world.database), campaign, index) for index in range(2))
    )
    assert tracking_of(claims[0]) == tracking_of(claims[1])
    assert len(await link_rows(world)) == 3


async def test_a_version_that_is_known_asks_postgres_no_more(world: World) -> None:
    campaign = await campaign_of(world)
    seen = []

    def counted(template: Template) -> tuple[str, ...]:
        seen.append(template.id)
        return static_links(template)

    claimer = Claimer(
        world.database, lease_seconds=LEASE_SECONDS, normalize=normalize, static_links=counted
    )
    first, second = await claimed(claimer, campaign), await claimed(claimer, campaign, 1)
    assert len(seen) == 1
    assert tracking_of(first) == tracking_of(second)


async def test_ids_of_a_claim_that_was_rolled_back_are_not_remembered(world: World) -> None:
    campaign = await campaign_of(world)
    claimer = claimer_of(world.database)
    # Deferred, it comes with the commit: the claim has read its links by then.
    await world.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN RAISE EXCEPTION USING ERRCODE = ''serialization_failure''; END'"
    )
    await world.execute(
        "CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE ON $messages DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    item = ClaimItem(campaign.request(), "token", JOB)
    failed = (await asyncio.gather(claimer.execute([item]), return_exceptions=True))[0]
    assert isinstance(failed, Exception)
    assert await link_rows(world) == []
    await world.execute("DROP TRIGGER refuse ON $messages")
    claim = await claimed(claimer, campaign)
    ids = [row["id"] for row in await world.rows("SELECT id FROM $links ORDER BY position")]
    assert tracking_of(claim).link_ids == tuple(ids)


async def test_a_row_that_another_program_version_made_is_not_taken_for_ours(world: World) -> None:
    campaign = await campaign_of(world)
    await world.execute(
        "INSERT INTO $links (template_id, position, url)"
        " SELECT template_id, 0, 'https://other.example/' FROM $campaigns WHERE id = $1",
        campaign.id,
    )
    claim = await claimed(claimer_of(world.database), campaign)
    own, *others = tracking_of(claim).link_ids
    assert own is None
    assert all(others)
    mail = composed(claim)
    assert A in [token.destination for token in tokens_of(mail, "html")]


async def test_without_clicks_or_without_a_tracker_no_link_gets_a_row(world: World) -> None:
    campaign = await campaign_of(world)
    await claimed(claimer_of(world.database, tracking=False), campaign)
    await world.execute("UPDATE $campaigns SET track_clicks = false")
    claim = await claimed(claimer_of(world.database), campaign, 1)
    assert await link_rows(world) == []
    assert tracking_of(claim) == Tracking(opens=True, clicks=False, text=False)


async def test_a_template_that_cannot_compile_is_claimed_all_the_same(world: World) -> None:
    campaign = await campaign_of(world, "<a href={{ x>", None)
    claim = await claimed(claimer_of(world.database), campaign)
    assert tracking_of(claim).link_ids == ()


def composed(claim: Claimed, tracking: TrackingUrls | None = URLS) -> EmailMessage:
    composer = MailComposer(ComposerOptions("News <news@example.org>", tracking))
    content = composer.compose(claim).content
    again = MailComposer(ComposerOptions("News <news@example.org>", tracking)).compose(claim)
    assert again.content == content
    return message_from_bytes(content, policy=policy.default)


def part_of(mail: EmailMessage, subtype: str) -> str:
    part = mail.get_body((subtype,))
    assert part is not None
    return str(part.get_content())


def tokens_of(mail: EmailMessage, subtype: str) -> list[Token]:
    """Read the clicks of a part, in order."""
    pieces = part_of(mail, subtype).split(f"{URLS.base}/c/")[1:]
    texts = ["".join(piece.replace('"', " ").split()[0]).rstrip(".") for piece in pieces]
    return [RING.read(TokenKind.CLICK, text) for text in texts]


async def test_a_tracked_mail_leads_to_its_own_links(world: World) -> None:
    campaign = await campaign_of(world)
    claim = await claimed(claimer_of(world.database), campaign)
    assert isinstance(claim.content, CampaignContent)
    mail = composed(claim)
    first, second, third = tokens_of(mail, "html")
    assert [token.message_id for token in (first, second, third)] == [claim.id] * 3
    urls = [
        await world.value("SELECT url FROM $links WHERE id = $1", token.link_id)
        for token in (first, second)
    ]
    assert urls == [A, B]
    assert third.destination == f"https://d.example/{claim.content.recipient_email}"
    html = part_of(mail, "html")
    assert f'<a href="{URLS.unsubscribe(claim.id)}">no more</a>' in html
    assert html.index(URLS.open(claim.id)) < html.index("</body>")
    assert part_of(mail, "plain").strip() == f"See {C}. No more: {URLS.unsubscribe(claim.id)}"


async def test_a_mail_claimed_again_by_another_replica_is_the_same_to_the_byte(
    world: World,
) -> None:
    campaign = await campaign_of(world)
    composer = MailComposer(ComposerOptions("News <news@example.org>", URLS))
    contents = []
    for _ in range(2):
        claim = await claimed(claimer_of(world.database), campaign)
        contents.append(composer.compose(claim).content)
        await world.settle(claim, MarkReleased("interrupted"))
        await world.execute("UPDATE $messages SET due_at = now()")
    assert contents[0] == contents[1]
    assert len(await link_rows(world)) == 3


async def test_a_campaign_may_track_its_text_and_no_opens(world: World) -> None:
    campaign = await campaign_of(world)
    await world.execute("UPDATE $campaigns SET track_text = true, track_opens = false")
    claim = await claimed(claimer_of(world.database), campaign)
    mail = composed(claim)
    (token,) = tokens_of(mail, "plain")
    assert token.link_id == tracking_of(claim).link_ids[2]
    assert "/o/" not in part_of(mail, "html")
