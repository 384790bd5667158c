from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.delivery.kit import Bench, bench_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def bench(database_url: str) -> AsyncIterator[Bench]:
    """Return a processor over a fresh, migrated database."""
    async with bench_of(database_url) as bench:
        yield bench
