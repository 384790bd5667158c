"""Where a link leads is known before anybody clicks it, and while Postgres is away."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from campaign_worker.errors import DatabaseAway
from campaign_worker.queue import ConnectionSpec
from campaign_worker.storage.tracking import PostgresLinks
from campaign_worker.storage.tracking_stream import RedisLinks, links_key
from campaign_worker.tracking.destinations import PAGE, Destinations
from shutdown.testing import stress
from tests.fixtures.proxy import TcpProxy
from tests.integration.storage.kit import opened, world_of
from tests.integration.tracking.site import site_of
from tests.integration.tracking.test_routes import SHOP, link
from tests.support import eventually

if TYPE_CHECKING:
    import redis.asyncio

    from tests.integration.storage.kit import World
    from tests.integration.tracking.kit import Tracked


def destinations_of(
    world: World, client: redis.asyncio.Redis, prefix: str, *, away: bool = False
) -> Destinations:
    copies = RedisLinks(client, links_key(prefix))
    return Destinations(PostgresLinks(world.database), copies, lambda: away, every_seconds=0.02)


async def test_new_links_are_known_and_copied_before_anybody_asks(
    world: World, redis_client: redis.asyncio.Redis, prefix: str
) -> None:
    destinations = destinations_of(world, redis_client, prefix)
    await destinations.start()
    old = await link(world, SHOP)
    await eventually(lambda: destinations.known(old) == SHOP)
    new = await link(world, "https://new.example/")
    await eventually(lambda: destinations.known(new) == "https://new.example/")
    await destinations.stop()
    assert await RedisLinks(redis_client, links_key(prefix)).url(new) == "https://new.example/"


async def test_a_link_is_looked_up_once_and_its_absence_is_told(
    world: World, redis_client: redis.asyncio.Redis, prefix: str
) -> None:
    shop = await link(world)
    destinations = destinations_of(world, redis_client, prefix)
    assert destinations.known(shop) is None
    await eventually(lambda: _found(destinations, shop))
    assert destinations.known(shop) == SHOP
    assert await destinations.find(shop + 1) is None


async def _found(destinations: Destinations, link_id: int) -> bool:
    try:
        return await destinations.find(link_id) == SHOP
    except DatabaseAway:
        return False


async def test_the_copy_serves_while_postgres_is_away(
    database_url: str, world: World, redis_client: redis.asyncio.Redis, prefix: str
) -> None:
    shop = await link(world)
    copies = RedisLinks(redis_client, links_key(prefix))
    await copies.keep({shop: SHOP})
    async with TcpProxy(database_url) as proxy, opened(proxy.url) as database:
        proxy.refuse()
        proxy.cut()
        for away in (False, True):
            found = Destinations(PostgresLinks(database), copies, lambda away=away: away)  # type: ignore[misc]  # a default argument
            assert await found.find(shop) == SHOP
            with pytest.raises(DatabaseAway):
                await found.find(shop + 1)
            await found.stop()


async def test_the_copy_serves_while_postgres_says_nothing(
    database_url: str, world: World, redis_client: redis.asyncio.Redis, prefix: str
) -> None:
    shop = await link(world)
    copies = RedisLinks(redis_client, links_key(prefix))
    await copies.keep({shop: SHOP})
    async with TcpProxy(database_url) as proxy, opened(proxy.url) as database:
        proxy.hold_replies()
        found = Destinations(PostgresLinks(database), copies, lambda: False)
        async with asyncio.timeout(5):
            # On a busy machine the copy may come too late as well; a driver gives up after seconds.
            await eventually(lambda: _found(found, shop), 4)
        proxy.pass_all()
        await found.stop()


async def test_a_reader_arrives_while_postgres_is_away_and_the_memory_is_cold(
    database_url: str, tracked: Tracked, redis_url: str, redis_client: redis.asyncio.Redis,
    prefix: str,
) -> None:  # fmt: skip
    shop = await link(tracked.world)
    sent = await tracked.sent()
    await RedisLinks(redis_client, links_key(prefix)).keep({shop: SHOP})
    async with (
        TcpProxy(database_url) as proxy,
        opened(proxy.url) as database,
        site_of(database, redis_url, prefix) as site,
    ):
        proxy.refuse()
        proxy.cut()
        reply = await site.get(site.urls.click(sent.id, link_id=shop))
        assert (reply.status, reply.headers["location"]) == (302, SHOP)
        reply = await site.get(site.urls.click(sent.id, link_id=shop + 1))
        assert (reply.status, reply.headers["retry-after"]) == (503, "30")


async def test_a_link_that_is_committed_after_a_later_one_is_known_too(
    database_url: str, world: World, redis_client: redis.asyncio.Redis, prefix: str
) -> None:
    copies = RedisLinks(redis_client, links_key(prefix))
    destinations = Destinations(
        PostgresLinks(world.database), copies, lambda: False, every_seconds=0.4
    )
    await destinations.start()
    async with world_of(database_url) as other:
        async with other.raw.transaction():
            late = await link(other, "https://late.example/")
            soon = await link(world, "https://soon.example/")
            await eventually(lambda: destinations.known(soon) is not None)
            assert destinations.known(late) is None
        await eventually(lambda: destinations.known(late) == "https://late.example/")
    await destinations.stop()


async def test_without_redis_all_links_are_known_and_copied_when_it_is_back(
    world: World, redis_url: str, redis_client: redis.asyncio.Redis, prefix: str
) -> None:
    template = await world.template()
    await world.execute(
        "INSERT INTO $links (template_id, position, url) SELECT $1, place, 'https://a.example/'"
        " FROM generate_series(0, $2::int) AS place",
        *(template, PAGE),
    )
    first, last = (await world.rows("SELECT min(id), max(id) FROM $links"))[0].values()
    async with TcpProxy(redis_url) as proxy:
        client = ConnectionSpec.of(proxy.url).client(socket_timeout=1.0)
        proxy.refuse()
        destinations = destinations_of(world, client, prefix)
        await destinations.start()
        assert await destinations.complete(10)
        assert None not in (destinations.known(first), destinations.known(last))
        proxy.pass_all()
        copies = RedisLinks(redis_client, links_key(prefix))
        await eventually(lambda: _copied(copies, first, last))
        await destinations.stop()
        await client.aclose()


async def _copied(copies: RedisLinks, *links: int) -> bool:
    return None not in [await copies.url(one) for one in links]


async def test_what_cannot_be_read_is_not_waited_for_without_end(
    database_url: str, redis_client: redis.asyncio.Redis, prefix: str
) -> None:
    async with TcpProxy(database_url) as proxy, opened(proxy.url) as database:
        proxy.refuse()
        proxy.cut()
        copies = RedisLinks(redis_client, links_key(prefix))
        destinations = Destinations(PostgresLinks(database), copies, lambda: True)
        await destinations.start()
        assert not await destinations.complete(0.1)
        proxy.pass_all()
        # Sooner than its usual look, once a second: who starts waits for it.
        assert await destinations.complete(10)
        await destinations.stop()


async def test_it_starts_and_stops_whenever_it_is_told(
    world: World, redis_client: redis.asyncio.Redis, prefix: str
) -> None:
    await stress(lambda: destinations_of(world, redis_client, prefix))
    assert await world.value("SELECT 1") == 1
