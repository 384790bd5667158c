"""The parts of a worker that serve an existing app by its contract. Decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from campaign_worker.contract.forms import AppForms
from campaign_worker.contract.ports import Delivers
from campaign_worker.contract.processor import ContractProcessor
from campaign_worker.contract.reading import Source
from campaign_worker.contract_keeper import ContractKeeper
from campaign_worker.delivery.ports import Gate
from campaign_worker.delivery.requests import CampaignRequest
from campaign_worker.errors import ContractBroken
from campaign_worker.mail.compose import normalize
from campaign_worker.sequence.jobs import MailJob, mail_job
from campaign_worker.storage.contract_probe import ContractProbe
from campaign_worker.storage.contract_tables import AppTables
from campaign_worker.storage.contract_upkeep import ContractUpkeep
from campaign_worker.storage.database import Database
from metrics import Listener


class AddsJobs(Protocol):
    """A queue. Raises errors.RedisAway."""

    async def add_all(self, jobs: Sequence[MailJob]) -> None:
        """Add several; those whose id is known change nothing."""
        ...


class ContractParts:
    """What a contract adds to a worker; `on_broken` hears when it does not fit any more."""

    def __init__(
        self,
        source: Source,
        database: Database,
        listener: Listener,
        on_broken: Callable[[ContractBroken], None],
    ) -> None:
        self._source = source
        self._halted = False
        self._probe = ContractProbe(database, source)
        self.tables = AppTables(
            database, source, normalize=normalize, listener=listener, on_broken=on_broken
        )
        self.forms = AppForms(source.contract, self.tables.mails_of, self.tables.campaign_of)
        self.keeper = ContractKeeper(ContractUpkeep(database, self.tables), on_broken)

    @property
    def job_names(self) -> list[str]:
        """The names of [jobs], as the contract has them."""
        return list(self._source.contract.jobs)

    def halt(self) -> None:
        """Let jobs with many mails give way: this worker takes nothing more."""
        self._halted = True

    async def verify(self) -> None:
        """Raise ContractError unless every statement fits the database; DatabaseAway."""
        await self._probe.verify()

    def processor(
        self, mails: Delivers, gate: Gate, queue_of: Callable[[str], AddsJobs]
    ) -> ContractProcessor:
        """Build the processor of the app's jobs."""

        async def launch(
            queue: str, requests: Sequence[CampaignRequest], opts: Mapping[str, Any]
        ) -> None:
            jobs = [
                mail_job(one.campaign_id, one.recipient_id, one.step, like=dict(opts))
                for one in requests
            ]
            await queue_of(queue).add_all(jobs)

        return ContractProcessor(
            self._source.contract, self.tables, mails, gate, launch, halted=lambda: self._halted
        )
