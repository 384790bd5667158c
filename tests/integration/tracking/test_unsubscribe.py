"""Who unsubscribes gets no more mail, as soon as the answer says so; nobody else is touched."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from campaign_worker.delivery.claims import Final, MessageState
from campaign_worker.errors import RedisAway
from campaign_worker.mail.compose import normalize
from campaign_worker.storage.tracking import PostgresUnsubscribes
from campaign_worker.storage.tracking_stream import RedisStream, unsubscribes_key
from campaign_worker.tracking.classify import EventKind
from campaign_worker.tracking.pages import ONE_CLICK
from tests.fixtures.proxy import TcpProxy
from tests.integration.storage.kit import inline, opened
from tests.integration.tracking.kit import Sent, Tracked, event
from tests.integration.tracking.site import BROWSER, Site, site_of
from tests.support import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.storage.kit import World

PROVIDER = {"User-Agent": "Gmail Actions"}


def _form() -> dict[str, Any]:
    return {"data": dict([ONE_CLICK])}


def _multipart() -> dict[str, Any]:
    with aiohttp.MultipartWriter("form-data") as writer:
        part = writer.append(ONE_CLICK[1])
        part.set_content_disposition("form-data", name=ONE_CLICK[0])
    return {"data": writer}


def _shout() -> dict[str, Any]:
    return {
        "data": b"List-Unsubscribe=one-click",
        "headers": {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"},
    }


async def unsubscribed(world: World, sent: Sent) -> bool:
    recipient = (await world.row(sent.id))["recipient_id"]
    return bool(
        await world.value(
            "SELECT unsubscribed_at IS NOT NULL FROM $recipients WHERE id = $1", recipient
        )
    )


async def follow_up(world: World, sent: Sent) -> int:
    row = await world.row(sent.id)
    await world.follow_up(sent.campaign, delay_seconds=0)
    return int(
        await world.value(
            "INSERT INTO $messages (campaign_id, recipient_id, step) VALUES ($1, $2, 1)"
            " RETURNING id",
            row["campaign_id"],
            row["recipient_id"],
        )
    )


@pytest.mark.parametrize("body", [_form, _multipart, _shout])
async def test_a_provider_unsubscribes_with_one_post_without_cookies(
    site: Site, tracked: Tracked, body: Callable[[], dict[str, Any]]
) -> None:
    sent = await tracked.sent()
    later = await follow_up(tracked.world, sent)
    options = body()
    options["headers"] = PROVIDER | options.get("headers", {})
    reply = await site.ask("POST", site.urls.unsubscribe(sent.id), **options)
    assert reply.status == 200
    assert "set-cookie" not in reply.headers
    assert await unsubscribed(tracked.world, sent)
    row = await tracked.world.row(later)
    assert (row["state"], row["reason"]) == ("skipped", "unsubscribed")
    email = await tracked.world.value(
        "SELECT r.email FROM $recipients r JOIN $messages m ON m.recipient_id = r.id"
        " WHERE m.id = $1",
        sent.id,
    )
    (kept,) = await tracked.world.rows("SELECT * FROM $suppressions")
    assert (kept["address"], kept["reason"], kept["message_id"]) == (
        email, "unsubscribe", sent.id,
    )  # fmt: skip
    (event_row,) = await tracked.world.rows("SELECT * FROM $tracking_events")
    assert (event_row["kind"], event_row["class"], event_row["machine"]) == (
        "unsubscribe", "human", False,
    )  # fmt: skip
    assert await tracked.counts(sent) == {"unsubscribed": 1, "skipped": 1}
    await tracked.assert_true()


@pytest.mark.parametrize(
    ("before", "after"),
    [("hard_bounce", "unsubscribe"), ("complaint", "complaint"), ("manual", "manual")],
)
async def test_an_unsubscribe_outlives_a_bounce_that_may_be_taken_back(
    site: Site, tracked: Tracked, before: str, after: str
) -> None:
    sent = await tracked.sent()
    await tracked.world.execute(
        "INSERT INTO $suppressions (address, reason, message_id) SELECT r.email, $2, m.id"
        " FROM $recipients r JOIN $messages m ON m.recipient_id = r.id WHERE m.id = $1",
        *(sent.id, before),
    )
    await site.ask("POST", site.urls.unsubscribe(sent.id), headers=PROVIDER, **_form())
    assert await tracked.world.value("SELECT reason FROM $suppressions") == after


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("agent", [BROWSER, "Mozilla/5.0", "Barracuda Sentinel", ""])
async def test_looking_at_the_page_changes_nothing(
    site: Site, tracked: Tracked, method: str, agent: str
) -> None:
    sent = await tracked.sent()
    url = site.urls.unsubscribe(sent.id)
    for query in ("", "?List-Unsubscribe=One-Click"):
        reply = await site.ask(method, url + query, headers={"User-Agent": agent})
        assert reply.status == 200
        assert reply.headers["cache-control"] == "no-store"
        assert reply.headers["referrer-policy"] == "no-referrer"
    assert not await unsubscribed(tracked.world, sent)
    assert await tracked.world.rows("SELECT * FROM $tracking_events") == []
    assert await tracked.world.rows("SELECT * FROM $suppressions") == []


async def test_no_crowd_behind_one_address_keeps_anybody_from_leaving(
    tracked: Tracked, redis_url: str, prefix: str
) -> None:
    campaign = await tracked.world.campaign(3)
    mails = [await tracked.sent(campaign, index) for index in range(3)]
    one = {"tracking_limit_per_client": 1, "tracking_limit_per_link": 1}
    async with site_of(tracked.world.database, redis_url, prefix, **one) as site:
        for sent in mails:
            await site.get(site.urls.open(sent.id))
        for sent in mails:
            url = site.urls.unsubscribe(sent.id)
            assert (await site.ask("POST", url, headers=PROVIDER, **_form())).status == 200
            assert await unsubscribed(tracked.world, sent)
        # A loop is not recorded for ever, and is not told that it was.
        assert (await site.ask("POST", url, headers=PROVIDER, **_form())).status == 503
    assert await tracked.counts(mails[0]) == {"open": 1, "unique_open": 1, "unsubscribed": 3}


async def test_the_page_has_a_button_that_posts_what_providers_post(
    site: Site, tracked: Tracked
) -> None:
    sent = await tracked.sent()
    page = (await site.get(site.urls.unsubscribe(sent.id))).body.decode()
    assert '<form method="post">' in page
    assert f'name="{ONE_CLICK[0]}" value="{ONE_CLICK[1]}"' in page
    assert "<button" in page
    assert "@" not in page
    reply = await site.ask("POST", site.urls.unsubscribe(sent.id), **_form())
    assert b"You are unsubscribed" in reply.body
    assert await unsubscribed(tracked.world, sent)


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("de-AT,de;q=0.9,en;q=0.8", "de"),
        ("en;q=0.1, fr", "fr"),
        ("xx, es;q=0.5, de;q=0", "es"),
        ("tlh", "en"),
        (";;;q=,,", "en"),
        ("", "en"),
    ],
)
async def test_the_page_speaks_the_language_of_its_reader(
    site: Site, tracked: Tracked, accepted: str, language: str
) -> None:
    sent = await tracked.sent()
    reply = await site.get(site.urls.unsubscribe(sent.id), headers={"Accept-Language": accepted})
    assert reply.headers["content-language"] == language
    assert f'<html lang="{language}">'.encode() in reply.body


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"data": b""},
        {"data": b"List-Unsubscribe=Two-Click"},
        {"json": {"List-Unsubscribe": "One-Click"}},
        {"data": b"x" * 40_000, "headers": {"Content-Type": "application/x-www-form-urlencoded"}},
        {"data": b"--a\r\nbroken", "headers": {"Content-Type": "multipart/form-data; boundary=a"}},
        {"data": b"x", "headers": {"Content-Type": "multipart/form-data"}},
        {"data": b"\xff=\xff", "headers": {"Content-Type": "application/x-www-form-urlencoded"}},
        {
            "data": b"List-Unsubscribe=One-Click",
            "headers": {"Content-Type": "application/x-www-form-urlencoded; charset=nonsense"},
        },
    ],
)
async def test_a_post_that_does_not_ask_for_it_unsubscribes_nobody(
    site: Site, tracked: Tracked, options: dict[str, Any]
) -> None:
    sent = await tracked.sent()
    reply = await site.ask("POST", site.urls.unsubscribe(sent.id), **options)
    assert reply.status == 400
    assert not await unsubscribed(tracked.world, sent)
    assert await tracked.world.rows("SELECT * FROM $tracking_events") == []


pieces = st.lists(
    st.sampled_from(
        [b"--a", b"--a--", b"\r\n", b"\r\n\r\n", b"Content-Disposition: form-data", b"; name=",
         b'"List-Unsubscribe"', b"One-", b"Content-Type: text/plain", b"; charset=x",
         b"Content-Transfer-Encoding: base64", b"Content-Length: 9", b"\0", b"\xff", b"%zz", b"&="]
    ),
    max_size=14,
).map(b"".join)  # fmt: skip


@settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    body=st.one_of(pieces, st.binary(max_size=100)),
    kind=st.sampled_from(
        ["multipart/form-data; boundary=a", "application/x-www-form-urlencoded", "multipart/mixed"]
    ),
)
@pytest.mark.filterwarnings("ignore:.*content.disposition")
async def test_no_body_is_a_fault_of_ours(site: Site, body: bytes, kind: str) -> None:
    url = site.urls.unsubscribe(1)
    reply = await site.ask("POST", url, data=body, headers={"Content-Type": kind})
    assert reply.status == 400


async def test_a_link_that_we_did_not_sign_unsubscribes_nobody(
    site: Site, tracked: Tracked
) -> None:
    sent = await tracked.sent()
    url = site.urls.unsubscribe(sent.id)
    for wrong in (url[:-1], url + "A", site.urls.open(sent.id).replace("/o/", "/u/")):
        assert (await site.ask("POST", wrong, **_form())).status == 404
    assert not await unsubscribed(tracked.world, sent)


async def test_whoever_has_unsubscribed_is_not_claimed_any_more(
    site: Site, tracked: Tracked
) -> None:
    campaign = await tracked.world.campaign(2)
    sent = await tracked.sent(campaign)
    await site.ask("POST", site.urls.unsubscribe(sent.id), **_form())
    await tracked.world.follow_up(campaign)
    claim = await tracked.world.claim(campaign.request(step=1))
    assert claim == Final(MessageState.SKIPPED, "unsubscribed", None)


async def test_the_address_is_suppressed_as_delivery_writes_it(
    site: Site, tracked: Tracked
) -> None:
    campaign = await tracked.world.campaign()
    await tracked.world.execute(
        "UPDATE $recipients SET email = 'Ann.Lee@EXAMPLE.com' WHERE campaign_id = $1", campaign.id
    )
    sent = await tracked.sent(campaign)
    await site.ask("POST", site.urls.unsubscribe(sent.id), **_form())
    again = await tracked.world.claim(inline("again", to=("ann.lee@example.com",)))
    assert again == Final(MessageState.SKIPPED, "suppressed_unsubscribe", None)


async def test_a_self_contained_mail_unsubscribes_all_that_it_went_to(
    site: Site, tracked: Tracked
) -> None:
    claim = await tracked.world.sent(inline(to=("a@example.com", "b@example.com")))
    assert (await site.ask("POST", site.urls.unsubscribe(claim.id), **_form())).status == 200
    found = await tracked.world.rows("SELECT address FROM $suppressions ORDER BY address")
    assert [row["address"] for row in found] == ["a@example.com", "b@example.com"]


async def test_an_unsubscribe_that_comes_again_does_not_undo_a_new_subscription(
    tracked: Tracked,
) -> None:
    sent = await tracked.sent()
    once = event(sent, EventKind.UNSUBSCRIBE)
    await tracked.unsubscribes.write([once])
    first = await tracked.world.value("SELECT unsubscribed_at FROM $recipients")
    assert first == once.occurred_at
    await tracked.world.execute("UPDATE $recipients SET unsubscribed_at = NULL")
    await tracked.world.execute("DELETE FROM $suppressions")
    await tracked.unsubscribes.write([once])
    assert not await unsubscribed(tracked.world, sent)
    assert await tracked.world.rows("SELECT * FROM $suppressions") == []
    await tracked.unsubscribes.write([event(sent, EventKind.UNSUBSCRIBE)])
    assert await unsubscribed(tracked.world, sent)
    await tracked.assert_true()


async def test_a_mail_whose_request_may_have_been_executed_is_left_to_its_claim(
    tracked: Tracked,
) -> None:
    sent = await tracked.sent()
    later = await follow_up(tracked.world, sent)
    await tracked.world.execute(
        "UPDATE $messages SET transport = 't', request = 'x', first_marked_at = now(),"
        " replay_until = now() WHERE id = $1",
        later,
    )
    await tracked.unsubscribes.write([event(sent, EventKind.UNSUBSCRIBE)])
    assert await unsubscribed(tracked.world, sent)
    assert await tracked.world.state(later) == "scheduled"


async def test_the_first_of_several_unsubscribes_is_the_one_that_is_dated(
    tracked: Tracked,
) -> None:
    sent = await tracked.sent()
    late, early, again = (event(sent, EventKind.UNSUBSCRIBE, after=n) for n in (200, 100, 50))
    await tracked.unsubscribes.write([late, early])
    await tracked.unsubscribes.write([again])
    at = await tracked.world.value("SELECT unsubscribed_at FROM $recipients")
    assert at == early.occurred_at
    await tracked.assert_true()


async def test_many_unsubscribe_at_once_while_their_mails_are_claimed(
    tracked: Tracked, database_url: str
) -> None:
    campaigns = [await tracked.world.campaign(10) for _ in range(2)]
    mails = [await tracked.sent(one, index) for one in campaigns for index in range(10)]
    for campaign in campaigns:
        await tracked.world.follow_up(campaign)
        await tracked.world.execute(
            "INSERT INTO $messages (campaign_id, recipient_id, step)"
            " SELECT campaign_id, id, 1 FROM $recipients WHERE campaign_id = $1",
            campaign.id,
        )
    requests = [one.request(index, 1) for one in campaigns for index in range(10)]
    async with opened(database_url) as elsewhere:
        other = PostgresUnsubscribes(elsewhere, normalize=normalize)
        leaving = [event(sent, EventKind.UNSUBSCRIBE) for sent in mails]
        await asyncio.gather(
            tracked.unsubscribes.write(leaving[:12]),
            other.write(leaving[:7:-1]),
            *(tracked.world.claim(request) for request in requests),
        )
    for sent in mails:
        assert await unsubscribed(tracked.world, sent)
    left = await tracked.world.value("SELECT count(*) FROM $messages WHERE state = 'scheduled'")
    assert left == 0
    await tracked.assert_true()


async def test_without_postgres_it_is_answered_when_redis_has_it_and_drained_before_claims(
    tracked: Tracked, database_url: str, redis_url: str, prefix: str
) -> None:
    sent = await tracked.sent()
    later = await follow_up(tracked.world, sent)
    async with (
        TcpProxy(database_url) as proxy,
        opened(proxy.url) as database,
        site_of(database, redis_url, prefix) as site,
    ):
        await database.ping()
        proxy.refuse()
        proxy.cut()
        reply = await site.ask("POST", site.urls.unsubscribe(sent.id), **_form())
        assert reply.status == 200
        assert not await unsubscribed(tracked.world, sent)
        proxy.pass_all()
        await eventually(lambda: _drained(site))
        assert await unsubscribed(tracked.world, sent)
        assert await tracked.world.state(later) == "skipped"


async def test_claims_wait_for_a_redis_that_may_hold_unsubscribes_and_not_for_one_that_refuses(
    tracked: Tracked, redis_url: str, redis_client: Any, prefix: str
) -> None:
    database = tracked.world.database
    async with TcpProxy(redis_url) as proxy, site_of(database, proxy.url, prefix) as site:
        proxy.refuse()
        with pytest.raises(RedisAway):
            await site.parts.drain_unsubscribes()
        proxy.pass_all()
        await eventually(lambda: _drained(site))
        # No stream, and never will be: intake must not wait for it.
        await redis_client.set(unsubscribes_key(prefix), "something else")
        await site.parts.drain_unsubscribes()
        await redis_client.delete(unsubscribes_key(prefix))


async def test_whoever_tracks_drains_what_waits_in_redis_by_itself(
    site: Site, tracked: Tracked, prefix: str, redis_client: Any
) -> None:
    sent = await tracked.sent()
    stream = RedisStream(redis_client, unsubscribes_key(prefix))
    await stream.put([event(sent, EventKind.UNSUBSCRIBE)])
    await site.parts.start()
    await eventually(lambda: unsubscribed(tracked.world, sent))
    await eventually(lambda: _empty(stream))


async def _empty(stream: RedisStream) -> bool:
    return not await stream.page("-", 1)


async def _drained(site: Site) -> bool:
    try:
        await site.parts.drain_unsubscribes()
    except Exception:  # noqa: BLE001 - the pool needs its time
        return False
    return True


async def test_without_postgres_and_redis_it_is_not_promised(
    tracked: Tracked, database_url: str, redis_url: str, prefix: str
) -> None:
    sent = await tracked.sent()
    async with (
        TcpProxy(database_url) as proxy,
        TcpProxy(redis_url) as redis_proxy,
        opened(proxy.url) as database,
        site_of(database, redis_proxy.url, prefix) as site,
    ):
        await database.ping()
        for one in (proxy, redis_proxy):
            one.refuse()
            one.cut()
        reply = await site.ask("POST", site.urls.unsubscribe(sent.id), **_form())
        assert (reply.status, reply.headers["retry-after"]) == (503, "30")
        assert b"Please try again" in reply.body
        # The wish is known, though nobody was promised anything: it is kept, and honoured later.
        for one in (proxy, redis_proxy):
            one.pass_all()
        await eventually(lambda: site.parts.unsubscribes.kept == 0, 10)
        # Whichever was back first has it by now.
        await eventually(lambda: _drained(site), 10)
        await eventually(lambda: unsubscribed(tracked.world, sent), 10)


async def test_the_stream_holds_no_address(
    tracked: Tracked, redis_url: str, prefix: str, redis_client: Any
) -> None:
    sent = await tracked.sent()
    stream = RedisStream(redis_client, unsubscribes_key(prefix))
    await stream.put([event(sent, EventKind.UNSUBSCRIBE)])
    ((_, fields),) = await redis_client.xrange(unsubscribes_key(prefix))
    assert "@" not in str(fields)
    assert redis_url
    (entry,) = await stream.page("-", 1)
    ((kept),) = entry.events or ()
    assert kept.occurred_at - dt.datetime.now(dt.UTC) < dt.timedelta(0)
    await stream.drop(entry.id)
