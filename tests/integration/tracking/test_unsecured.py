"""An answer says when its event is in the memory of one process only."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import aiohttp
import pytest
import redis.asyncio
from prometheus_client import CollectorRegistry

from campaign_worker.storage.database import Database, DatabaseOptions
from campaign_worker.storage.tracking import PostgresLinks
from campaign_worker.storage.tracking_stream import RedisLinks, links_key
from campaign_worker.tracking.clients import ClientHashes
from campaign_worker.tracking.destinations import Destinations
from campaign_worker.tracking.limits import RateLimit
from campaign_worker.tracking.routes import Clients, Limits, TrackingRoutes
from campaign_worker.tracking.tokens import Keyring
from campaign_worker.tracking.urls import TrackingUrls
from campaign_worker.web import WebServer
from metrics import Exposition
from tests.integration.tracking.kit import Sent, Tracked
from tests.integration.tracking.site import BROWSER, KEY, Healthy, Site, site_of
from tests.integration.tracking.test_recorder import PATIENT, Bench, bench_of, held
from tests.integration.tracking.test_routes import SHOP, link
from tests.support import eventually, free_port

ELSEWHERE = "https://shop.example/"
# A plain GET takes the shorter way through the server, HEAD aiohttp's.
WAYS = ("GET", "HEAD")


def links(urls: TrackingUrls, message: int) -> list[str]:
    return [urls.open(message), urls.click(message, destination=ELSEWHERE)]


@pytest.fixture
async def lonely_site(prefix: str) -> AsyncIterator[Site]:
    """Return a site whose stores nobody has ever reached."""
    nowhere = f"127.0.0.1:{free_port()}"
    database = Database(DatabaseOptions(dsn=f"postgresql://nobody@{nowhere}/none"))
    # No store will take what is left at the end, however long it is offered.
    async with site_of(database, f"redis://{nowhere}/0", prefix, flush_seconds=0.1) as site:
        yield site


@pytest.mark.parametrize("method", WAYS)
async def test_an_answer_whose_event_no_store_has_says_so(lonely_site: Site, method: str) -> None:
    for url, status in zip(links(lonely_site.urls, 1), (200, 302), strict=True):
        reply = await lonely_site.ask(method, url)
        assert (reply.status, reply.headers.get("tracking")) == (status, "unsecured")


@pytest.mark.parametrize("method", WAYS)
async def test_an_answer_whose_event_is_in_a_store_says_nothing(
    site: Site, tracked: Tracked, method: str
) -> None:
    sent = await tracked.sent()
    for url in links(site.urls, sent.id):
        assert "tracking" not in (await site.ask(method, url)).headers


@contextlib.asynccontextmanager
async def patient_site(
    bench: Bench, client: redis.asyncio.Redis, prefix: str
) -> AsyncIterator[WebServer]:
    """Serve clicks whose events may wait for seconds, and whose links nobody has read before."""
    links = PostgresLinks(bench.tracked.world.database)
    destinations = Destinations(links, RedisLinks(client, links_key(prefix)), lambda: False)
    routes = TrackingRoutes(
        Keyring([KEY]),
        bench.recorder,
        bench.recorder,
        destinations,
        Limits(RateLimit(0), RateLimit(0)),
        Clients(ClientHashes(enabled=False)),
        bench.heard,
    )
    exposition = Exposition(CollectorRegistry())
    server = WebServer(0, Healthy(), exposition, routes.table, routes.quick)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
        await destinations.stop()


async def test_whoever_waited_for_a_destination_waits_for_both_no_longer_than_for_one(
    tracked: Tracked, redis_url: str, redis_client: redis.asyncio.Redis, prefix: str
) -> None:
    sent = await tracked.sent()
    shop = await link(tracked.world)
    async with (
        bench_of(tracked, redis_url, prefix, PATIENT) as bench,
        patient_site(bench, redis_client, prefix) as server,
        aiohttp.ClientSession(headers={"User-Agent": BROWSER}) as session,
    ):
        urls = TrackingUrls(f"http://127.0.0.1:{server.port}", Keyring([KEY]))

        async def clicked() -> tuple[int, str | None]:
            url = urls.click(sent.id, link_id=shop)
            async with session.get(url, allow_redirects=False) as answer:
                assert answer.headers.get("location", SHOP) == SHOP
                return answer.status, answer.headers.get("tracking")

        async def unsecured() -> bool:
            # On a busy machine the destination itself may not be found in time.
            return await clicked() == (302, "unsecured")

        async with held(tracked, sent):
            await eventually(unsecured, 4)
        # The event came to its row all the same.
        await eventually(lambda: _counted(tracked, sent))


async def _counted(tracked: Tracked, sent: Sent) -> bool:
    return (await tracked.counts(sent)).get("click", 0) >= 1
