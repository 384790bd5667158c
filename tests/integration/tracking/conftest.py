from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.storage.kit import World, world_of
from tests.integration.tracking.kit import Tracked
from tests.integration.tracking.site import Site, site_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    """Return a ledger over a fresh, migrated database."""
    async with world_of(database_url) as world:
        yield world


@pytest.fixture
def tracked(world: World) -> Tracked:
    """Return words for what is tracked, over the same database."""
    return Tracked(world)


@pytest.fixture
async def site(world: World, redis_url: str, prefix: str) -> AsyncIterator[Site]:
    """Return the tracking routes on a port, over the same database."""
    async with site_of(world.database, redis_url, prefix) as site:
        yield site
