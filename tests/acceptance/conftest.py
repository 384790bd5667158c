"""Sites for acceptance tests: on the session's servers, or on servers that a test may break."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from campaign_worker.embedded.postgres import PostgresServer
from campaign_worker.embedded.redis import RedisServer
from campaign_worker.embedded.smtp_server import SmtpSink
from campaign_worker.storage.migrate import migrate
from tests.acceptance.site import Site, SiteMaker

Maker = Callable[..., Awaitable[Any]]


@pytest.fixture
async def make_site(  # noqa: PLR0913, PLR0917 - all servers there are: they must outlive the workers
    redis_url: str,
    database_url: str,
    prefix: str,
    smtp_sink: SmtpSink,
    own_redis: Maker,
    own_postgres: Maker,
    own_sink: Maker,
    tmp_path: Path,
) -> AsyncIterator[SiteMaker]:
    """Return a maker of sites, on the session's servers unless it is told others.

    At the end no worker is left, and no private word was written by any.
    """
    sites: list[Site] = []

    def make(**parts: Any) -> Site:
        defaults = {
            "redis_url": redis_url,
            "database_url": database_url,
            "sink": smtp_sink,
            "prefix": f"{prefix}:{len(sites)}",
            "folder": tmp_path / f"site-{len(sites)}",
        }
        site = Site(**{**defaults, **parts})
        sites.append(site)
        return site

    yield make
    for site in sites:
        await site.close()


@pytest.fixture
def site(make_site: SiteMaker) -> Site:
    """Return a site on the session's servers."""
    return make_site()


@pytest.fixture
async def mortal_postgres(own_postgres: Callable[..., Awaitable[PostgresServer]]) -> PostgresServer:
    """Return a migrated Postgres that the test may stop."""
    server = await own_postgres()
    await migrate(server.url)
    return server


@pytest.fixture
async def mortal_redis(own_redis: Callable[..., Awaitable[RedisServer]]) -> RedisServer:
    """Return a Redis with an append-only file that the test may stop."""
    return await own_redis(appendfsync="always")
