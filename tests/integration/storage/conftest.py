from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.storage.kit import World, world_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    """Return a ledger over a fresh, migrated database."""
    async with world_of(database_url) as world:
        yield world
