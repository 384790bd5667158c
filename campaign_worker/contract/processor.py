"""The processor of an app's jobs: what its contract says a job asks for is done, and ended so.

Decides nothing about a mail: delivery does. Something being away is no outcome here either.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, assert_never

import structlog

from campaign_worker.contract.asked import (
    AppMail,
    Asked,
    AskedLaunch,
    AskedMany,
    AskedOne,
    AskedOwn,
    AskedWhole,
    NobodysAnyMore,
    NotOurs,
    Unnamed,
)
from campaign_worker.contract.many import Many
from campaign_worker.contract.model import Contract, FollowUpJob, SendJob
from campaign_worker.contract.payload import asked, job_kind
from campaign_worker.contract.ports import Delivers, Launches, RunningJob, Tables
from campaign_worker.delivery.claims import Missing
from campaign_worker.delivery.ports import Gate, JobView, Signal
from campaign_worker.delivery.requests import CampaignRequest, Request
from campaign_worker.errors import (
    DatabaseAway,
    MailNotSent,
    PayloadError,
    RedisAway,
    RowRefused,
)
from campaign_worker.queue.endings import Completed, Ending, Failed, HandedBack, Json

log = structlog.get_logger(__name__)

_PAGE = 500


class ContractProcessor:
    """Called by the queue for each job, many at a time.

    `halted`: this worker shall stop. A list would use up the whole drain window; it gives way.
    """

    def __init__(
        self,
        contract: Contract,
        tables: Tables,
        mails: Delivers,
        gate: Gate,
        launches: Launches,
        *,
        halted: Callable[[], bool] = lambda: False,
    ) -> None:
        self._halted = halted
        self._contract = contract
        self._tables = tables
        self._mails = mails
        self._gate = gate
        self._launches = launches

    async def __call__(self, job: RunningJob, _token: str, signal: Signal) -> Ending:
        """Process one job. Raises nothing but CancelledError and mistakes of ours."""
        try:
            return await self._process(job, asked(self._contract, job), signal)
        except PayloadError as error:
            return self._mails.refused(job, error)
        except RowRefused as error:
            return self._mails.refused(job, PayloadError("data", f"Postgres refuses it: {error}"))
        except DatabaseAway as error:
            self._gate.database_away(error)
            return HandedBack("database_away")
        except RedisAway:
            return HandedBack("redis_away")

    async def _process(self, job: RunningJob, found: Asked, signal: Signal) -> Ending:
        match found:
            case AskedOne(mail):
                return await self._one(job, mail, signal)
            case AskedMany():
                many = Many(self._tables, self._mails, job, found, signal, self._halted)
                return self._returned(job, await many.run(), many.values)
            case AskedWhole(request) | AskedOwn(request):
                return await self._deliver(job, request, signal)
            case AskedLaunch(campaign):
                return await self._launch(job, campaign, signal)
            case NotOurs():
                return self._mails.parked()
            case NobodysAnyMore():
                problem = f"{job.name!r} is served no more, says the contract"
                return Failed(PayloadError("name", problem), retry=False)
            case Unnamed():
                return self._mails.unknown(job)
            case _:
                assert_never(found)

    async def _one(self, job: RunningJob, mail: AppMail, signal: Signal) -> Ending:
        request = await self._tables.resolve(mail)
        if isinstance(request, CampaignRequest):
            return await self._deliver(job, request, signal)
        # Producers that add a job before they commit its rows are common: Node's worker would fail
        # this attempt, and find them at the next.
        error = MailNotSent("missing", f"{self._path(job, request)}: {request.problem}")
        log.error("not in the app's tables", job_id=job.id, queue=job.queue_name, problem=error)
        return Failed(error)

    async def _deliver(self, job: RunningJob, request: Request, signal: Signal) -> Ending:
        ending = self._mails.ending(await self._mails.deliver(job, request, signal))
        values: dict[str, Any] = {}
        if isinstance(ending, Completed) and isinstance(ending.value, dict):
            given = ending.value
            values = {**given, "message_id": given.get("messageId"), "total": 1}
            values |= {"sent": int(given["outcome"] == "sent"), "failed": 0, "in_doubt": 0}
            values["skipped"] = 1 - values["sent"]
        return self._returned(job, ending, values)

    async def _launch(self, job: RunningJob, campaign: str, signal: Signal) -> Ending:
        total, after = 0, None
        while not (signal.aborted or self._halted()):
            page = await self._tables.audience(campaign, after, _PAGE)
            if not page or page[-1] == after:
                ending = Completed({"outcome": "launched", "total": total})
                return self._returned(job, ending, {"outcome": "launched", "total": total})
            found = await self._tables.resolve_all([AppMail(campaign, key) for key in page])
            requests = [one for one in found if isinstance(one, CampaignRequest)]
            await self._tables.make_rows(requests, job.queue_name)
            await self._launches(job.queue_name, requests, job.opts)
            total, after = total + len(requests), page[-1]
        return HandedBack("interrupted")

    def _path(self, job: JobView, missing: Missing) -> str:
        kind = job_kind(self._contract, job.queue_name, job.name)
        if isinstance(kind, SendJob | FollowUpJob):
            return getattr(kind, missing.field) or missing.field
        return missing.field

    def _returned(self, job: JobView, ending: Ending, values: Mapping[str, Any]) -> Ending:
        """Give the return value in the app's own form, if the contract has one."""
        kind = job_kind(self._contract, job.queue_name, job.name)
        returns = getattr(kind, "returns", None)
        if returns is None or not isinstance(ending, Completed):
            return ending
        said: dict[str, Json] = {
            name: values.get(value[1:])
            if isinstance(value, str) and value.startswith(":")
            else value
            for name, value in returns.items()
        }
        return Completed(said)
