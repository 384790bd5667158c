from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.storage.kit import World, world_of
from tests.integration.tracking.kit import Tracked

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
