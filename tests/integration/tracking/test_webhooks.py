"""Webhooks over HTTP and into Postgres: answered after the commit, or delivered again."""

from __future__ import annotations

import asyncio
import base64
import gzip
import io
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from campaign_worker.delivery.settlements import MarkSent
from campaign_worker.mail.compose import normalize
from campaign_worker.settings import WebhookSettings
from campaign_worker.storage.feedback import PostgresFeedback
from campaign_worker.storage.migrate import migrate
from campaign_worker.tracking.webhooks import FeedbackStore, webhook_table
from campaign_worker.tracking.webhooks.routes import MAX_BODY
from campaign_worker.web import Health, WebServer
from metrics import Exposition, Fanout, Listener, WebhookReceived
from tests.fixtures.webhooks import (
    HOST,
    POSTMARK_BOUNCE,
    POSTMARK_SECRET,
    RESEND_BOUNCED,
    RESEND_COMPLAINED,
    SES_BOUNCE,
    SES_DELIVERY,
    SVIX_SECRET,
    TOPIC,
    Sns,
    changed,
    postmark_headers,
    svix_headers,
)
from tests.integration.storage.kit import World, world_of

ALL = {
    "RESEND_WEBHOOK_SECRET": SVIX_SECRET,
    "SES_WEBHOOK_TOPICS": TOPIC,
    "POSTMARK_WEBHOOK_SECRET": POSTMARK_SECRET,
}


class Noted:
    """Keeps what was counted."""

    def __init__(self) -> None:
        self.results: list[tuple[str, str]] = []

    def on_event(self, event: object) -> None:
        if isinstance(event, WebhookReceived):
            self.results.append((event.provider, event.result))


class NoHealth:
    """Nobody asks for it here."""

    def health(self) -> Health:
        raise AssertionError


class Door:
    """A server with the routes, and a client that knocks."""

    def __init__(self, server: WebServer, noted: Noted, session: aiohttp.ClientSession) -> None:
        self._server = server
        self._session = session
        self.noted = noted

    @property
    def port(self) -> int:
        return self._server.port

    def url(self, provider: str) -> str:
        return f"http://127.0.0.1:{self.port}/webhooks/{provider}"

    async def post(
        self, provider: str, body: bytes, headers: dict[str, str] | None = None
    ) -> tuple[int, str]:
        """Send a webhook; its status and result."""
        data = io.BytesIO(body)
        async with self._session.post(self.url(provider), data=data, headers=headers) as response:
            assert response.headers.get("Cache-Control") == "no-store"
            return response.status, (await response.json())["result"]

    async def resend(self, event: dict[str, Any], event_id: str = "msg_1") -> tuple[int, str]:
        body = json.dumps(event).encode()
        headers = svix_headers(body, at=time.time(), event_id=event_id)
        return await self.post("resend", body, headers)

    async def ses(self, message: dict[str, Any]) -> tuple[int, str]:
        text = {"Content-Type": "text/plain; charset=UTF-8"}
        return await self.post("ses", json.dumps(message).encode(), text)


async def door_to(
    store: FeedbackStore, sns: Sns, monkeypatch: pytest.MonkeyPatch, **values: str
) -> AsyncIterator[Door]:
    for name in ALL:
        monkeypatch.delenv(name, raising=False)
    given = {name.lower(): value for name, value in values.items()}
    settings = WebhookSettings.load(env_file=None, **given)
    noted = Noted()
    table = webhook_table(settings, store, noted, fetcher=sns.fetcher())
    server = WebServer(0, NoHealth(), Exposition(CollectorRegistry()), table)
    await server.start()
    try:
        async with aiohttp.ClientSession() as session:
            yield Door(server, noted, session)
    finally:
        await server.stop()


def store_over(world: World) -> PostgresFeedback:
    listener: Listener = Fanout()
    return PostgresFeedback(world.database, normalize=normalize, listener=listener)


@pytest.fixture
async def door(world: World, sns: Sns, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Door]:
    """Return the door with every provider behind it."""
    async for made in door_to(store_over(world), sns, monkeypatch, **ALL):
        yield made


async def sent(world: World, reply: str) -> tuple[Any, str]:
    """Send a mail with that answer; its row, and whom it went to."""
    campaign = await world.campaign()
    claim = await world.claimed(campaign.request())
    name = f"<{claim.message_key}.campaign-worker@example.org>"
    assert await world.ledger.mark(claim.id, claim.token, name)
    await world.settle(claim, MarkSent(name, reply))
    query = "SELECT email FROM $recipients WHERE id = $1"
    return claim, await world.value(query, campaign.recipients[0])


async def test_a_bounce_of_resend_reaches_its_row(world: World, door: Door) -> None:
    mail_id = RESEND_BOUNCED["data"]["email_id"]
    claim, email = await sent(world, f"200 {mail_id}")
    bounced = changed(RESEND_BOUNCED, data__to=[email])
    assert await door.resend(bounced) == (200, "applied")
    assert await door.resend(bounced) == (200, "known")
    assert (await world.row(claim))["bounced_at"] is not None
    assert await world.value("SELECT reason FROM $suppressions WHERE address=$1", email) == (
        "hard_bounce"
    )
    assert await world.rows(world.database.sql["verify_counts"]) == []


async def test_a_bounce_of_ses_reaches_its_row_by_our_message_id(
    world: World, door: Door, sns: Sns
) -> None:
    claim, email = await sent(world, "250 Ok")
    name = (await world.row(claim))["message_id"]
    bounce = changed(
        SES_BOUNCE,
        mail__headers=[{"name": "message-id", "value": name}],
        bounce__bouncedRecipients=[{"emailAddress": email.upper()}],
    )
    message = sns.message(bounce)
    assert await door.ses(message) == (200, "applied")
    # SNS delivers again; and both of SES' ways report the same bounce.
    assert await door.ses(message) == (200, "known")
    assert await door.ses(sns.message(bounce)) == (200, "known")
    assert (await world.row(claim))["bounced_at"] is not None
    assert await world.value("SELECT count(*) FROM $feedback_events") == 1


async def test_a_bounce_of_postmark_reaches_its_row(world: World, door: Door) -> None:
    claim, email = await sent(world, "250 2.0.0 Ok: queued as 4XyZ")
    body = json.dumps(changed(POSTMARK_BOUNCE, Email=email, BouncedAt=None)).encode()
    assert await door.post("postmark", body, postmark_headers()) == (200, "applied")
    assert (await world.row(claim))["bounced_at"] is not None


async def test_a_complaint_suppresses_an_address_nobody_here_wrote_to(
    world: World, door: Door
) -> None:
    assert await door.resend(RESEND_COMPLAINED) == (200, "applied")
    row = (await world.rows("SELECT address, reason, message_id FROM $suppressions"))[0]
    assert row == {"address": "delivered@resend.dev", "reason": "complaint", "message_id": None}


async def test_a_subscription_is_confirmed_and_counted_as_ignored(door: Door, sns: Sns) -> None:
    message = sns.subscription()
    path = message["SubscribeURL"].removeprefix(f"https://{HOST}")
    sns.pages[path] = (200, b"")
    assert await door.ses(message) == (200, "ignored")
    assert path in sns.asked


async def test_deliveries_are_ignored(world: World, door: Door, sns: Sns) -> None:
    assert await door.ses(sns.message(SES_DELIVERY)) == (200, "ignored")
    assert await door.resend({"type": "email.delivered"}) == (200, "ignored")
    assert await world.value("SELECT count(*) FROM $feedback_events") == 0


async def test_forged_webhooks_get_401_change_nothing_and_are_counted(
    world: World, door: Door, sns: Sns
) -> None:
    resend = json.dumps(RESEND_BOUNCED).encode()
    signed = svix_headers(resend, at=time.time())
    old = svix_headers(resend, at=time.time() - 3600)
    ses = json.dumps(sns.message(SES_BOUNCE) | {"Message": "{}"}).encode()
    postmark = json.dumps(POSTMARK_BOUNCE).encode()
    for provider, body, headers in (
        ("resend", resend, {}),
        ("resend", resend + b" ", signed),
        ("resend", resend, old),
        ("ses", ses, {}),
        ("postmark", postmark, {}),
        ("postmark", postmark, postmark_headers("wrong")),
        ("postmark", postmark, signed),
    ):
        assert await door.post(provider, body, headers) == (401, "forged")
    assert [result for _, result in door.noted.results] == ["forged"] * 7
    assert await world.value("SELECT count(*) FROM $feedback_events") == 0
    assert await world.value("SELECT count(*) FROM $suppressions") == 0


async def test_whoever_forgot_the_password_is_asked_for_it(door: Door) -> None:
    async with aiohttp.ClientSession() as session, session.post(door.url("postmark")) as response:
        assert response.status == 401
        assert response.headers["WWW-Authenticate"].startswith("Basic")


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b"[" * 100_000])
async def test_authentic_nonsense_is_malformed(door: Door, body: bytes) -> None:
    headers = svix_headers(body, at=time.time())
    assert await door.post("resend", body, headers) == (400, "malformed")
    assert await door.post("postmark", body, postmark_headers()) == (400, "malformed")
    assert await door.post("ses", body) == (400, "malformed")


@pytest.mark.parametrize("name", ["", "sendgrid", "resend/", "../ready", "re%73end", "x" * 4000])
async def test_nobody_else_is_there_and_no_name_becomes_a_label(door: Door, name: str) -> None:
    url = door.url("x").removesuffix("x")
    async with aiohttp.ClientSession() as session:
        from yarl import URL  # noqa: PLC0415

        async with session.post(URL(url + name, encoded=True), data=b"{}") as response:
            assert response.status == 404
    assert {provider for provider, _ in door.noted.results} <= {"unknown"}


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
async def test_only_a_post_is_a_webhook(door: Door, method: str) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, door.url("postmark"), headers=postmark_headers()) as response,
    ):
        assert (response.status, response.headers["Allow"]) == (405, "POST")


@pytest.mark.parametrize("left_out", sorted(ALL))
async def test_a_provider_without_a_secret_is_not_there(
    world: World, sns: Sns, monkeypatch: pytest.MonkeyPatch, left_out: str
) -> None:
    values = {name: value for name, value in ALL.items() if name != left_out}
    provider = left_out.split("_", maxsplit=1)[0].lower()
    async for door in door_to(store_over(world), sns, monkeypatch, **values):
        assert await door.post(provider, b"{}", postmark_headers()) == (404, "unknown")


async def test_without_any_secret_there_is_no_route(world: World, sns: Sns) -> None:
    settings = WebhookSettings.load(env_file=None)
    assert webhook_table(settings, store_over(world), Fanout(), fetcher=sns.fetcher()) == {}


async def test_a_body_is_read_up_to_its_bound(door: Door) -> None:
    most = b" " * (MAX_BODY - 2) + b"{}"
    headers = svix_headers(most, at=time.time())
    assert await door.post("resend", most, headers) == (200, "ignored")
    more = most + b" "
    assert await door.post("resend", more, svix_headers(more, at=time.time())) == (413, "too_large")


async def test_a_body_of_unknown_length_is_read_no_further(door: Door) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
    head = b"POST /webhooks/resend HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    writer.write(head)
    chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    try:
        for _ in range(MAX_BODY // 65_536 + 1):
            writer.write(chunk)
            await writer.drain()
        # No end of the body was sent, and none is waited for.
        assert b" 413 " in await reader.readline()
        writer.write(b"0\r\n\r\n")
    finally:
        writer.close()
        await writer.wait_closed()
    assert ("resend", "too_large") in door.noted.results


async def test_what_grows_when_it_is_unpacked_is_bounded_too(door: Door) -> None:
    packed = gzip.compress(b" " * (50 * MAX_BODY))
    headers = {"Content-Encoding": "gzip"}
    try:
        status, result = await door.post("resend", packed, headers)
        assert (status, result) in {(413, "too_large"), (400, "malformed")}
    except aiohttp.ClientConnectionError:
        assert door.noted.results[-1][1] in {"too_large", "malformed"}


async def test_while_sns_is_away_a_message_is_put_off(world: World, door: Door, sns: Sns) -> None:
    message = sns.message(SES_BOUNCE)
    await sns.stop()
    async with (
        aiohttp.ClientSession() as session,
        session.post(door.url("ses"), data=json.dumps(message)) as response,
    ):
        assert (response.status, response.headers["Retry-After"]) == (503, "30")
    await sns.start()
    assert await door.ses(message) == (200, "applied")
    assert await world.value("SELECT count(*) FROM $feedback_events") == 1


async def test_while_postgres_is_away_an_event_is_put_off_and_then_taken_once(
    own_postgres: Any, sns: Sns, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await own_postgres()
    url = await server.create_database("away")
    await migrate(url)
    async with world_of(url) as world:
        async for door in door_to(store_over(world), sns, monkeypatch, **ALL):
            await world.raw.close()
            await server.stop("immediate")
            assert await door.resend(RESEND_BOUNCED) == (503, "away")
            await server.start()
            assert await door.resend(RESEND_BOUNCED) == (200, "applied")
            assert await door.resend(RESEND_BOUNCED) == (200, "known")
            rows = await world.database.fetch("read_suppressions", ["delivered@resend.dev"])
            assert [row["reason"] for row in rows] == ["hard_bounce"]
        # The store's own server is stopped after its pool is closed.


async def test_the_same_event_many_times_at_once_is_applied_once(world: World, door: Door) -> None:
    said = await asyncio.gather(*(door.resend(RESEND_BOUNCED) for _ in range(20)))
    assert sorted(said) == [(200, "applied"), *[(200, "known")] * 19]
    assert await world.value("SELECT count(*) FROM $feedback_events") == 1


async def test_no_secret_and_no_address_is_shown(
    door: Door, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    await door.post("postmark", b"{}", postmark_headers("wrong"))
    await door.resend(RESEND_BOUNCED)
    printed = capsys.readouterr()
    said = caplog.text + printed.out + printed.err
    encoded = base64.b64encode(f"postmark:{POSTMARK_SECRET}".encode()).decode()
    for secret in (POSTMARK_SECRET, SVIX_SECRET, encoded, "delivered@resend.dev"):
        assert secret not in said
