"""The tracking routes on a free port, over real stores, and a client without cookies."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Any

import aiohttp
from prometheus_client import CollectorRegistry

from campaign_worker.queue import ConnectionSpec
from campaign_worker.settings import TrackerSettings
from campaign_worker.settings.kinds import SigningKey
from campaign_worker.state import WorkerState
from campaign_worker.storage.database import Database
from campaign_worker.tracking.tokens import Keyring
from campaign_worker.tracking.urls import TrackingUrls
from campaign_worker.tracking_parts import TrackingParts
from campaign_worker.web import Health, WebServer
from metrics import Exposition, Fanout, PrometheusListener
from shutdown import Deadline
from tests.integration.tracking.kit import Heard

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

KEY = SigningKey("2026", "signing-secret-of-this-test-0123456789")
BROWSER = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)"
    " Chrome/130.0.0.0 Safari/537.36"
)


class Healthy:
    """A health source for a port that only tracks."""

    def health(self) -> Health:
        state = WorkerState.READY
        return Health(state, consumed=True, in_flight=0, last_claim_age_seconds=None, held=(),
                      version="1", instance="test")  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Reply:
    """What came back; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Site:
    """Asks one server; makes the links that mails would carry."""

    def __init__(
        self, base: str, session: aiohttp.ClientSession, parts: TrackingParts, heard: Heard
    ) -> None:
        self.base = base
        self.parts = parts
        self.heard = heard
        self.urls = TrackingUrls(base, Keyring([KEY]))
        self._session = session

    async def ask(self, method: str, url: str, **options: Any) -> Reply:
        """Ask for a URL or a path; follows no redirect, names a browser unless told otherwise."""
        headers = {"User-Agent": BROWSER, **options.pop("headers", {})}
        url = url if url.startswith("http") else self.base + url
        async with self._session.request(
            method, url, headers=headers, allow_redirects=False, **options
        ) as answer:
            found = {name.lower(): value for name, value in answer.headers.items()}
            return Reply(answer.status, found, await answer.read())

    async def get(self, url: str, **options: Any) -> Reply:
        return await self.ask("GET", url, **options)


def settings_of(database_url: str, redis_url: str, prefix: str, **more: Any) -> TrackerSettings:
    given: dict[str, Any] = {
        "database_url": database_url,
        "redis_url": redis_url,
        "bullmq_prefix": prefix,
        "tracking_signing_keys": (KEY,),
        "tracking_base_url": "https://track.example.org",
    }
    return TrackerSettings.load(env_file=None, **(given | more))


@contextlib.asynccontextmanager
async def site_of(
    database: Database, redis_url: str, prefix: str, *, flush_seconds: float = 5.0, **more: Any
) -> AsyncIterator[Site]:
    """Serve tracking over an open database; `more` are settings."""
    settings = settings_of(database.options.dsn, redis_url, prefix, **more)
    client = ConnectionSpec.of(redis_url).client(socket_timeout=5.0)
    registry, heard = CollectorRegistry(), Heard()
    listener = Fanout(PrometheusListener(registry), heard)
    parts = TrackingParts(settings, database, client, listener)
    routes = parts.routes
    server = WebServer(0, Healthy(), Exposition(registry), routes.table, routes.quick)
    await server.start()
    try:
        jar = aiohttp.DummyCookieJar()
        async with aiohttp.ClientSession(cookie_jar=jar) as session:
            yield Site(f"http://127.0.0.1:{server.port}", session, parts, heard)
    finally:
        await server.stop()
        for service in parts.services:
            await service.stop()
        await parts.close(Deadline.after(flush_seconds))
        await client.aclose()
