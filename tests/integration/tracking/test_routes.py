"""What the links of mails do when somebody, or something, asks for them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from campaign_worker.settings.kinds import SigningKey
from campaign_worker.tracking.classify import TIMING
from campaign_worker.tracking.tokens import Keyring
from campaign_worker.tracking.urls import TrackingUrls
from metrics import TrackingRefused
from tests.integration.tracking.site import BROWSER, Site, site_of

if TYPE_CHECKING:
    from tests.integration.storage.kit import World
    from tests.integration.tracking.kit import Sent, Tracked

SHOP = "https://shop.example/offers?from=mail&to=%C3%A9"
APPLE = {"User-Agent": "Mozilla/5.0"}
GMAIL = {"User-Agent": "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via"
                       " ggpht.com GoogleImageProxy)"}  # fmt: skip


async def link(world: World, url: str = SHOP, position: int = 0) -> int:
    return int(
        await world.value(
            "INSERT INTO $links (template_id, position, url) VALUES ($1, $2, $3) RETURNING id",
            await world.template(),
            position,
            url,
        )
    )


async def rows(world: World) -> list[dict[str, Any]]:
    return await world.rows("SELECT * FROM $tracking_events ORDER BY occurred_at")


def refused(site: Site) -> list[tuple[str, str]]:
    return [
        (event.kind, event.reason)
        for event in site.heard.events
        if isinstance(event, TrackingRefused)
    ]


async def test_an_open_is_a_picture_that_nobody_keeps(site: Site, tracked: Tracked) -> None:
    sent = await tracked.sent()
    reply = await site.get(site.urls.open(sent.id))
    assert (reply.status, reply.headers["content-type"]) == (200, "image/gif")
    assert reply.body.startswith(b"GIF89a")
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["referrer-policy"] == "no-referrer"
    assert "date" in reply.headers
    assert "set-cookie" not in reply.headers
    (row,) = await rows(tracked.world)
    assert (row["kind"], row["class"], row["machine"], row["head"]) == (
        "open", "human", False, False,
    )  # fmt: skip
    assert row["user_agent"] == BROWSER
    assert len(row["client_hash"]) == 16
    assert await tracked.counts(sent) == {"open": 1, "unique_open": 1}
    await tracked.assert_true()


async def test_a_click_leads_to_the_link_of_the_template(site: Site, tracked: Tracked) -> None:
    sent, shop = await tracked.sent(), await link(tracked.world)
    for _ in range(2):
        reply = await site.get(site.urls.click(sent.id, link_id=shop))
        assert (reply.status, reply.headers["location"], reply.body) == (302, SHOP, b"")
        assert reply.headers["cache-control"] == "no-store"
        assert reply.headers["referrer-policy"] == "no-referrer"
    assert {row["link_id"] for row in await rows(tracked.world)} == {shop}
    assert await tracked.counts(sent) == {"click": 2, "unique_open": 1, "unique_click": 1}


async def test_a_click_leads_to_the_destination_that_its_token_carries(
    site: Site, tracked: Tracked
) -> None:
    sent = await tracked.sent()
    for url in (SHOP, "http://other.example/?q=1#there"):
        reply = await site.get(site.urls.click(sent.id, destination=url))
        assert (reply.status, reply.headers["location"]) == (302, url)
    # Two links within a moment.
    assert await tracked.counts(sent) == {"machine_click": 2}


@pytest.mark.parametrize(
    "url", ["https://shop.example/grün?x=ä b", "https://shop.example/\r\nX: y"]
)
async def test_a_destination_is_always_fit_for_a_header(
    site: Site, tracked: Tracked, url: str
) -> None:
    sent = await tracked.sent()
    reply = await site.get(site.urls.click(sent.id, link_id=await link(tracked.world, url)))
    assert reply.status == 302
    assert reply.headers["location"].isascii()
    assert "x" not in reply.headers


@pytest.mark.parametrize("kind", ["open", "click"])
async def test_head_is_answered_without_a_body_and_kept_as_a_machines(
    site: Site, tracked: Tracked, kind: str
) -> None:
    sent = await tracked.sent()
    shop = await link(tracked.world)
    url = site.urls.open(sent.id) if kind == "open" else site.urls.click(sent.id, link_id=shop)
    reply = await site.ask("HEAD", url)
    assert (reply.status, reply.body) == (200 if kind == "open" else 302, b"")
    (row,) = await rows(tracked.world)
    assert (row["machine"], row["head"]) == (True, True)
    assert await tracked.counts(sent) == {f"machine_{kind}": 1}


async def test_the_class_of_the_visitor_decides_what_is_counted(
    site: Site, tracked: Tracked
) -> None:
    sent = await tracked.sent()
    for headers in (APPLE, GMAIL, {"Sec-Purpose": "prefetch"}, {"User-Agent": "curl/8"}):
        assert (await site.get(site.urls.open(sent.id), headers=headers)).status == 200
    assert [row["class"] for row in await rows(tracked.world)] == [
        "privacy_proxy", "privacy_proxy", "prefetch", "scanner",
    ]  # fmt: skip
    assert await tracked.counts(sent) == {"open": 1, "machine_open": 3, "unique_open": 1}
    await tracked.assert_true()


async def test_what_is_asked_for_right_after_the_send_is_a_prefetch(
    site: Site, tracked: Tracked
) -> None:
    claim = await tracked.world.sent((await tracked.world.campaign()).request())
    await tracked.world.execute("UPDATE $messages SET marked_at = now() WHERE id = $1", claim.id)
    assert TIMING.prefetch_seconds_after_send > 1
    await site.get(site.urls.open(claim.id))
    (row,) = await rows(tracked.world)
    assert (row["class"], row["machine"]) == ("prefetch", True)


async def test_requests_of_one_connection_and_of_many_are_all_answered(
    site: Site, tracked: Tracked
) -> None:
    sent = await tracked.sent()
    replies = await asyncio.gather(*(site.get(site.urls.open(sent.id)) for _ in range(40)))
    assert {reply.status for reply in replies} == {200}
    assert await tracked.counts(sent) == {"open": 40, "unique_open": 1}


def _wrong_links(site: Site, sent: Sent) -> list[str]:
    foreign = TrackingUrls(site.base, Keyring([SigningKey("2026", "x" * 40)]))
    good = site.urls.click(sent.id, destination=SHOP)
    return [
        foreign.click(sent.id, destination=SHOP),
        good[:-1],
        good + "A",
        good[:-2] + ("A" if good[-2] != "A" else "B") + good[-1],
        site.urls.open(sent.id).replace("/o/", "/c/").removesuffix(".gif"),
        f"{site.base}/c/",
        f"{site.base}/c/{'A' * 6000}",
        f"{site.base}/c/https://evil.example",
        f"{site.base}/c/%00%0d%0a",
    ]


async def test_a_link_that_we_did_not_sign_leads_nowhere_and_is_counted(
    site: Site, tracked: Tracked
) -> None:
    sent = await tracked.sent()
    links = _wrong_links(site, sent)
    for url in links:
        reply = await site.get(url)
        assert reply.status == 404, url
        assert "location" not in reply.headers
    assert (await site.get(site.urls.open(sent.id).removesuffix(".gif"))).status == 404
    assert refused(site).count(("click", "invalid_token")) == len(links)
    assert await rows(tracked.world) == []


async def test_a_query_takes_no_destination(site: Site, tracked: Tracked) -> None:
    sent = await tracked.sent()
    url = site.urls.click(sent.id, destination=SHOP)
    for query in ("?url=https://evil.example", "?to=//evil.example", "?"):
        assert (await site.get(url + query)).headers["location"] == SHOP


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_other_methods_record_nothing(site: Site, tracked: Tracked, method: str) -> None:
    sent = await tracked.sent()
    urls = [site.urls.open(sent.id), site.urls.click(sent.id, destination=SHOP)]
    for url in urls:
        reply = await site.ask(method, url)
        assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD")
    assert await rows(tracked.world) == []


async def test_a_link_that_does_not_exist_leads_nowhere(site: Site, tracked: Tracked) -> None:
    sent = await tracked.sent()
    reply = await site.get(site.urls.click(sent.id, link_id=987_654))
    assert reply.status == 404
    assert refused(site) == [("click", "unknown_link")]
    assert await rows(tracked.world) == []


async def test_a_message_that_does_not_exist_is_no_fault(site: Site, tracked: Tracked) -> None:
    assert (await site.get(site.urls.open(987_654))).status == 200
    assert await rows(tracked.world) == []


async def test_a_loop_fills_no_table_and_its_reader_still_arrives(
    world: World, tracked: Tracked, redis_url: str, prefix: str
) -> None:
    sent = await tracked.sent()
    async with site_of(world.database, redis_url, prefix, tracking_limit_per_link=3) as site:
        for turn in range(10):
            reply = await site.get(site.urls.click(sent.id, destination=SHOP))
            assert (reply.status, reply.headers["location"]) == (302, SHOP)
            assert reply.headers.get("tracking") == ("limited" if turn >= 3 else None)
        assert refused(site) == [("click", "limited")] * 7
        reply = await site.get(site.urls.open(sent.id))
        assert (reply.status, reply.headers.get("tracking")) == (200, None)
    assert await tracked.counts(sent) == {
        "open": 1, "click": 3, "unique_open": 1, "unique_click": 1,
    }  # fmt: skip


async def test_one_client_is_limited_and_the_proxy_of_a_mailbox_provider_is_not(
    world: World, tracked: Tracked, redis_url: str, prefix: str
) -> None:
    campaign = await world.campaign(5)
    mails = [await tracked.sent(campaign, index) for index in range(5)]
    async with site_of(world.database, redis_url, prefix, tracking_limit_per_client=2) as site:
        for sent in mails:
            await site.get(site.urls.open(sent.id), headers=GMAIL)
        marks = [
            (await site.get(site.urls.open(sent.id))).headers.get("tracking") for sent in mails
        ]
        assert marks == [None, None, "limited", "limited", "limited"]
        assert refused(site) == [("open", "limited")] * 3
    assert await tracked.counts(mails[0]) == {"open": 7, "unique_open": 5}


async def test_the_address_is_what_our_own_proxy_says_and_kept_as_a_hash_or_not_at_all(
    world: World, tracked: Tracked, redis_url: str, prefix: str
) -> None:
    sent = await tracked.sent()
    header = {"tracking_client_ip_header": "X-Real-IP"}
    async with site_of(world.database, redis_url, prefix, **header) as site:
        for address in ("203.0.113.7", "198.51.100.1, 203.0.113.7", "203.0.113.8"):
            await site.get(site.urls.open(sent.id), headers={"X-Real-IP": address})
    one, same, other = [row["client_hash"] for row in await rows(world)]
    assert one == same != other
    none = {"tracking_client_hash": "none"}
    async with site_of(world.database, redis_url, prefix, **none) as site:
        await site.get(site.urls.open(sent.id))
    assert (await rows(world))[-1]["client_hash"] is None


async def test_a_hostile_user_agent_is_kept_cut_and_clean(site: Site, tracked: Tracked) -> None:
    sent = await tracked.sent()
    agent = "Mozilla/5.0 (X11) é " + "x" * 4000
    assert (await site.get(site.urls.open(sent.id), headers={"User-Agent": agent})).status == 200
    (row,) = await rows(tracked.world)
    assert len(row["user_agent"]) == 256


async def test_a_connection_is_kept_or_closed_as_the_client_wants(
    site: Site, tracked: Tracked
) -> None:
    sent = await tracked.sent()
    path = site.urls.open(sent.id).removeprefix(site.base)
    port = int(site.base.rpartition(":")[2])
    for version, wish, expected in (
        ("1.0", "", b"Connection: close"),
        ("1.0", "Connection: keep-alive\r\n", b"Connection: keep-alive"),
        ("1.1", "Connection: close\r\n", b"Connection: close"),
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {path} HTTP/{version}\r\nHost: x\r\n{wish}\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert expected in head
        writer.close()
        await writer.wait_closed()


paths = st.one_of(
    st.text(max_size=80),
    st.binary(max_size=80).map(lambda data: data.decode("latin-1")),
    st.text(alphabet="ABCDEFabcdef0189-_=.%/", max_size=120),
)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    method=st.sampled_from(["GET", "HEAD", "POST", "PUT", "OPTIONS"]),
    first=st.sampled_from(["o", "c", "u"]),
    rest=paths,
)
async def test_no_path_is_a_fault_of_ours(site: Site, method: str, first: str, rest: str) -> None:
    reply = await site.ask(method, f"/{first}/{rest}")
    assert reply.status in (400, 404, 405)
    assert "location" not in reply.headers


names = st.sampled_from(["User-Agent", "Accept-Language", "X-Real-IP", "Sec-Purpose", "Cookie"])
values = st.binary(max_size=60).filter(lambda value: not {10, 13} & set(value))


@settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(headers=st.dictionaries(names, values, max_size=4), unsubscribe=st.booleans())
async def test_no_header_is_a_fault_of_ours(
    site: Site, tracked: Tracked, headers: dict[str, bytes], unsubscribe: bool
) -> None:
    sent = await tracked.sent()
    url = site.urls.unsubscribe(sent.id) if unsubscribe else site.urls.open(sent.id)
    lines = [f"{name}: ".encode() + value + b"\r\n" for name, value in headers.items()]
    wish = f"GET {url.removeprefix(site.base)} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", int(site.base.rpartition(":")[2]))
    writer.write(wish.encode() + b"".join(lines) + b"\r\n")
    status = int((await reader.readline()).split()[1])
    writer.close()
    await writer.wait_closed()
    # 400 is the server's own word about what no header may hold.
    assert status in (200, 400)
