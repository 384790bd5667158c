"""One job with many recipients: a row and an outcome for each, and one ending for the job.

A job that comes again, after a stop or a deferral, goes on where it was: the rows know.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, assert_never

import structlog

from campaign_worker.contract.asked import AskedMany
from campaign_worker.contract.model import Progress
from campaign_worker.contract.ports import Delivers, RunningJob, Tables
from campaign_worker.delivery import outcomes
from campaign_worker.delivery.claims import MessageState, Missing
from campaign_worker.delivery.guard import RESTING
from campaign_worker.delivery.outcomes import Outcome
from campaign_worker.delivery.ports import Signal
from campaign_worker.delivery.requests import CampaignRequest
from campaign_worker.errors import JobGone, PayloadError, RedisAway
from campaign_worker.queue.endings import Completed, Deferred, Ending, HandedBack

log = structlog.get_logger(__name__)

_PAGE = 500
_FOR_ALL = (*RESTING, "send_rate", "transport_down", "settings")
"""Reasons to wait that the rest of the list shares: it need not find out one by one."""

_FINAL = {
    MessageState.SENT: "sent",
    MessageState.SKIPPED: "skipped",
    MessageState.FAILED: "failed",
    MessageState.IN_DOUBT: "in_doubt",
}


class Many:
    """One run of one such job."""

    def __init__(
        self,
        tables: Tables,
        mails: Delivers,
        job: RunningJob,
        wanted: AskedMany,
        signal: Signal,
        halted: Callable[[], bool],
    ) -> None:
        self._halted_by_stop = halted
        self._tables = tables
        self._mails = mails
        self._job = job
        self._wanted = wanted
        self._signal = signal
        self._tally: Counter[str] = Counter()
        self._waits: list[float] = []
        self._interrupted: str | None = None
        self._halted = False
        self._told: int | None = None

    async def run(self) -> Ending:
        """Take every recipient to an outcome. Raises DatabaseAway."""
        mails = self._wanted.mails
        for start in range(0, len(mails), _PAGE):
            if self._stops():
                break
            await self._page(await self._requests(start))
        return self._ending()

    @property
    def values(self) -> dict[str, Any]:
        """What a return value may say."""
        states = ("sent", "skipped", "failed", "in_doubt")
        return {
            "outcome": "done",
            "total": len(self._wanted.mails),
            **{state: self._tally[state] for state in states},
        }

    def _stops(self) -> bool:
        return self._halted or self._interrupted is not None or self._gives_way()

    def _gives_way(self) -> bool:
        return self._signal.aborted or self._halted_by_stop()

    async def _requests(self, start: int) -> list[CampaignRequest]:
        page = self._wanted.mails[start : start + _PAGE]
        requests: dict[CampaignRequest, None] = {}
        for found in await self._tables.resolve_all(page):
            if isinstance(found, Missing):
                log.error("recipient of a list", job_id=self._job.id, problem=found.problem)
                self._tally["failed"] += 1
            elif found in requests:
                log.warning("an address stands twice in a list", job_id=self._job.id)
                self._tally["skipped"] += 1
            else:
                requests[found] = None
        return list(requests)

    async def _page(self, requests: Sequence[CampaignRequest]) -> None:
        standing = await self._tables.standing(requests)
        still_open = []
        for request in requests:
            state = _FINAL.get(standing.get(request, MessageState.SCHEDULED))
            if state is None:
                still_open.append(request)
            else:
                self._tally[state] += 1
        await self._tell()
        rest = iter(still_open)
        runners = [self._serve(rest) for _ in range(min(self._wanted.parallel, len(still_open)))]
        # Not a task group: what befalls one mail must not cut another off after its final dot.
        for result in await asyncio.gather(*runners, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result

    async def _serve(self, rest: Iterator[CampaignRequest]) -> None:
        for request in rest:
            if self._stops():
                return
            try:
                self._note(await self._mails.deliver(self._job, request, self._signal))
            except PayloadError as error:
                log.error("recipient of a list", job_id=self._job.id, problem=str(error))
                self._tally["failed"] += 1
            await self._tell()

    def _note(self, outcome: Outcome) -> None:
        match outcome:
            case outcomes.Sent():
                self._tally["sent"] += 1
            case outcomes.Skipped():
                self._tally["skipped"] += 1
            case outcomes.Rejected() | outcomes.Failed(exhausted=True):
                self._tally["failed"] += 1
            case outcomes.InDoubt(resend=False):
                self._tally["in_doubt"] += 1
            case outcomes.InDoubt():
                self._waits.append(0.0)
            case outcomes.Failed(_, seconds) | outcomes.Busy(seconds):
                self._waits.append(seconds)
            case outcomes.Deferred(reason, seconds):
                self._waits.append(seconds)
                self._halted = self._halted or reason in _FOR_ALL
            case outcomes.Interrupted(reason):
                self._interrupted = reason
            case _:
                assert_never(outcome)

    async def _tell(self) -> None:
        """Report progress as a Node processor would: after a mail, if it has changed."""
        total, done = len(self._wanted.mails), self._tally.total()
        percent = done * 100 // total if total else 100
        if self._wanted.progress is Progress.NONE or percent == self._told:
            return
        self._told = percent
        count: dict[str, Any] = {"done": done, "total": total}
        said = percent if self._wanted.progress is Progress.PERCENT else count
        try:
            await self._job.update_progress(said)
        except JobGone:
            log.warning("a job is gone from Redis, its mails go on", job_id=self._job.id)
        except RedisAway:
            self._interrupted = "redis_away"

    def _ending(self) -> Ending:
        everybody = self._tally.total() == len(self._wanted.mails)
        if self._interrupted is not None or (self._gives_way() and not everybody):
            return HandedBack(self._interrupted or "interrupted")
        if self._waits:
            return Deferred(self._mails.until_ms(min(self._waits)))
        return Completed(self.values)
