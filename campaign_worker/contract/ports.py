"""What jobs of an app need from the world; storage and the composition root fulfil it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from campaign_worker.contract.asked import AppMail
from campaign_worker.delivery.claims import MessageState, Missing
from campaign_worker.delivery.outcomes import Outcome
from campaign_worker.delivery.ports import JobView, Signal
from campaign_worker.delivery.requests import CampaignRequest, Request
from campaign_worker.errors import PayloadError
from campaign_worker.queue.endings import Ending, Json


class Tables(Protocol):
    """The app's tables. Every method raises errors.DatabaseAway."""

    async def resolve(self, mail: AppMail) -> CampaignRequest | Missing:
        """Say which of our rows this mail is; Missing: the app does not have it."""
        ...

    async def resolve_all(self, mails: Sequence[AppMail]) -> Sequence[CampaignRequest | Missing]:
        """Resolve several."""
        ...

    async def standing(
        self, requests: Sequence[CampaignRequest]
    ) -> Mapping[CampaignRequest, MessageState]:
        """Say in which state the rows are that exist."""
        ...

    async def audience(self, campaign: str, after: str | None, limit: int) -> Sequence[str]:
        """Give a page of a campaign's recipients, by the app's ids."""
        ...

    async def make_rows(self, requests: Sequence[CampaignRequest], queue: str) -> None:
        """Make the rows of first mails that have none."""
        ...


class Delivers(Protocol):
    """What delivery's MailProcessor does."""

    async def deliver(self, job: JobView, request: Request, signal: Signal) -> Outcome:
        """Take one request of a job to its outcome. Raises PayloadError."""
        ...

    def ending(self, outcome: Outcome) -> Ending:
        """Say how a job ends by the outcome of its mail."""
        ...

    def refused(self, job: JobView, error: PayloadError) -> Ending:
        """Say how a job ends that asks for nothing that could be done."""
        ...

    def unknown(self, job: JobView) -> Ending:
        """Say how a job ends whose name nobody here knows."""
        ...

    def parked(self) -> Ending:
        """Say how a job ends that is somebody else's."""
        ...

    def until_ms(self, seconds: float) -> int:
        """Give the time, in epoch milliseconds, to which a job is put off."""
        ...


class RunningJob(JobView, Protocol):
    """A job that can say how far it is."""

    async def update_progress(self, progress: Json) -> None:
        """Store `progress` and publish it. Raises errors.JobGone, errors.RedisAway."""
        ...


class Launches(Protocol):
    """Adds the jobs of first mails. Raises errors.RedisAway."""

    async def __call__(
        self, queue: str, requests: Sequence[CampaignRequest], opts: Mapping[str, Any]
    ) -> None:
        """Add a job for each, with the options of the job that launches them."""
        ...


MailsOf = Callable[[Sequence[CampaignRequest]], Awaitable[Mapping[CampaignRequest, AppMail]]]
