"""An answer says when its event is in the memory of one process only."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from campaign_worker.storage.database import Database, DatabaseOptions
from campaign_worker.tracking.urls import TrackingUrls
from tests.integration.tracking.kit import Tracked
from tests.integration.tracking.site import Site, site_of
from tests.support import free_port

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
    async with site_of(database, f"redis://{nowhere}/0", prefix) as site:
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
