"""Does a contract fit the database? One finding for each fault; `contract check` says more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from campaign_worker.check.finding import Finding, broken, fine
from campaign_worker.errors import CredentialsRefused, DatabaseAway
from campaign_worker.operations import database_options
from campaign_worker.storage.contract_probe import ContractProbe
from campaign_worker.storage.database import Database
from shutdown import Deadline

if TYPE_CHECKING:
    from campaign_worker.contract.reading import Source
    from campaign_worker.settings import Settings

_ITEM = "CONTRACT"
_CLOSE_SECONDS = 1.0


async def check_statements(settings: Settings, source: Source) -> list[Finding]:
    """Prepare each statement of the contract."""
    database = Database(database_options(settings))
    try:
        await database.open()
        looks = await ContractProbe(database, source).looks()
    except (DatabaseAway, CredentialsRefused):
        return [broken(_ITEM, "not looked at: Postgres is away", "see DATABASE_URL")]
    finally:
        await database.close(Deadline.after(_CLOSE_SECONDS))
    problems = [problem for look in looks for problem in look.problems]
    if not problems:
        return [fine(_ITEM, f"{source.file}: {len(looks)} statements fit the app's tables")]
    return [
        broken(_ITEM, f"{one.file}:{one.line}: {one.place}: {one.problem}", one.mend)
        for one in problems
    ]
