"""Looks at everything that the settings name and says what is wrong and how to mend it.

Changes nothing anywhere: no key, no row, no mail. Every look is bounded; all run at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from campaign_worker.check.contract_statements import check_statements
from campaign_worker.check.finding import Finding, Level, broken
from campaign_worker.check.postgres import check_postgres
from campaign_worker.check.process import check_drain, check_port, check_settings
from campaign_worker.check.redis import check_redis
from campaign_worker.check.smtp import check_transport
from campaign_worker.contract.serving import served

if TYPE_CHECKING:
    from campaign_worker.settings import Settings

__all__ = ["Finding", "Level", "run_checks"]

BOUND_SECONDS = 5.0


async def run_checks(
    settings: Settings, *, bound_seconds: float = BOUND_SECONDS
) -> tuple[Finding, ...]:
    """Return the findings in a fixed order: stores, transports, process. Raises ContractError."""
    settings, source = served(settings)
    looks = [
        ("REDIS_URL", check_redis(settings)),
        ("DATABASE_URL", check_postgres("DATABASE_URL", settings.database_url, settings)),
    ]
    direct = settings.migrate_database_url
    if direct is not None and direct != settings.database_url:
        look = check_postgres("MIGRATE_DATABASE_URL", direct, settings)
        looks.append(("MIGRATE_DATABASE_URL", look))
    if source is not None:
        looks.append(("CONTRACT", check_statements(settings, source)))
    for name, url in settings.transports.items():
        looks.append((f"transport {name}", check_transport(name, url, settings, bound_seconds)))
    looks.append(("PORT", check_port(settings.port)))
    bounded = [_bounded(item, look, bound_seconds) for item, look in looks]
    found = [finding for findings in await asyncio.gather(*bounded) for finding in findings]
    return (*found, *check_drain(settings), *check_settings(settings))


async def _bounded(
    item: str, look: Awaitable[list[Finding]], bound_seconds: float
) -> list[Finding]:
    try:
        async with asyncio.timeout(bound_seconds):
            return await look
    except TimeoutError:
        mend = "check host, port and network: a firewall that drops packets looks like this"
        return [broken(item, f"no answer within {bound_seconds:g} s", mend)]
