"""Jobs in, endings out: the processor that the queue runs. Each outcome has exactly one ending.

Something of ours being away is no outcome: intake is held, the job goes back, no attempt is spent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import assert_never

import structlog

from campaign_worker.delivery import outcomes, payload
from campaign_worker.delivery.guard import RESTING
from campaign_worker.delivery.outcomes import Outcome
from campaign_worker.delivery.pipeline import Pipeline, Run
from campaign_worker.delivery.ports import Gate, JobView, NextSteps, Signal
from campaign_worker.delivery.requests import CampaignRequest, InlineRequest, JobRef, Request
from campaign_worker.delivery.retry import Attempt
from campaign_worker.delivery.senders import SENDER_RESTS
from campaign_worker.errors import (
    DatabaseAway,
    MailNotSent,
    PayloadError,
    RedisAway,
    RowRefused,
    SettingsError,
    TransportDown,
)
from campaign_worker.queue.endings import Completed, Deferred, Ending, Failed, HandedBack
from metrics import Listener, UnknownJob

log = structlog.get_logger(__name__)

PARK_SECONDS = 300.0
"""How long a job that belongs to somebody else sleeps before it is looked at again."""

MISCONFIGURED_SECONDS = 60.0
"""How long a job sleeps whose campaign names a transport that no setting describes."""

_TIMESTAMP_MOST = 2**53


@dataclass(frozen=True, slots=True)
class ProcessorOptions:
    """`park_unknown`: jobs of other names are parked, not failed. Times come from `now_ms`.

    `known_jobs` are the names that are served, for people. `on_rest` is told of each job whose
    campaign rests: its queue, and the campaign.
    """

    park_unknown: bool
    now_ms: Callable[[], int]
    backoff_seconds: Callable[[JobView], Awaitable[float]]
    known_jobs: Sequence[str] = payload.KNOWN_JOBS
    on_rest: Callable[[str, int], None] = lambda _queue, _campaign_id: None


class MailProcessor:
    """Called by the queue for each job, many at a time."""

    def __init__(
        self,
        pipeline: Pipeline,
        gate: Gate,
        next_steps: NextSteps,
        listener: Listener,
        options: ProcessorOptions,
    ) -> None:
        self._pipeline = pipeline
        self._gate = gate
        self._next_steps = next_steps
        self._listener = listener
        self._options = options

    async def __call__(self, job: JobView, _token: str, signal: Signal) -> Ending:
        """Process one job. Raises nothing but CancelledError and mistakes of ours."""
        if job.name not in payload.KNOWN_JOBS:
            return self.unknown(job)
        try:
            request = payload.parse(
                job.name,
                job.data,
                queue=job.queue_name,
                job_id=job.id,
                timestamp_ms=job.timestamp,
            )
            return self.ending(await self.deliver(job, request, signal))
        except PayloadError as error:
            return self.refused(job, error)

    def refused(self, job: JobView, error: PayloadError) -> Ending:
        """Say how a job ends that asks for nothing that could be done."""
        log.error("payload refused", job_id=job.id, queue=job.queue_name, reason=str(error))
        return Failed(error, retry=False)

    async def deliver(self, job: JobView, request: Request, signal: Signal) -> Outcome:
        """Take one request of a job to its outcome. Raises PayloadError."""
        with structlog.contextvars.bound_contextvars(**_context(job, request)):
            outcome = await self._deliver(job, request, signal)
            _tell(outcome)
            return outcome

    async def _deliver(self, job: JobView, request: Request, signal: Signal) -> Outcome:
        limit = max(1, _attempts(job))
        attempt = Attempt(limit, await self._options.backoff_seconds(job))
        asked_by = JobRef(job.queue_name, job.id, job.attempts_made, _added_ms(job))
        run = Run(request, asked_by, attempt, signal)
        try:
            outcome = await self._pipeline.deliver(run)
        except DatabaseAway as error:
            self._gate.database_away(error)
            return outcomes.Interrupted("database_away")
        except TransportDown as error:
            return self._transport_down(error)
        except RedisAway:
            return outcomes.Interrupted("redis_away")
        except RowRefused as error:
            raise PayloadError("data", f"Postgres refuses it: {error}") from error
        except SettingsError as error:
            log.error("settings do not serve this campaign", reason=str(error))
            return outcomes.Deferred("settings", MISCONFIGURED_SECONDS)
        if isinstance(outcome, outcomes.Deferred):
            campaign_id = _at_rest(request, outcome.reason)
            if campaign_id is not None:
                self._options.on_rest(job.queue_name, campaign_id)
        if isinstance(outcome, outcomes.Sent) and outcome.next_step is not None:
            await self._next_steps.add(outcome.next_step, job)
        return outcome

    def _transport_down(self, error: TransportDown) -> Outcome:
        seconds = self._gate.transport_down(error.transport, error)
        if seconds is None:
            return outcomes.Interrupted("transport_down")
        return outcomes.Deferred("transport_down", seconds)

    def unknown(self, job: JobView) -> Ending:
        """Say how a job ends whose name nobody here knows."""
        self._listener.on_event(UnknownJob(job.queue_name, job.name))
        if self._options.park_unknown:
            log.error(
                "job of an unknown name parked: it belongs to another worker, or UNKNOWN_JOBS=fail",
                job_id=job.id,
                job_name=job.name,
                queue=job.queue_name,
                park_seconds=PARK_SECONDS,
            )
            return self.parked()
        problem = (
            f"unknown job {job.name!r}; this worker knows {', '.join(self._options.known_jobs)}"
        )
        return Failed(PayloadError("name", problem), retry=False)

    def parked(self) -> Ending:
        """Say how a job ends that is somebody else's."""
        return Deferred(self.until_ms(PARK_SECONDS))

    def until_ms(self, seconds: float) -> int:
        """Give the time, in epoch milliseconds, to which a job is put off."""
        # At least a millisecond, so that the job leaves the head of the queue.
        return self._options.now_ms() + max(1, round(seconds * 1000))

    def ending(self, outcome: Outcome) -> Ending:
        """Say how a job ends by the outcome of its mail."""
        match outcome:
            case outcomes.Sent(message_id):
                return Completed({"outcome": "sent", "messageId": message_id})
            case outcomes.Skipped(reason):
                return Completed({"outcome": "skipped", "reason": reason})
            case outcomes.Deferred(_, seconds) | outcomes.Busy(seconds):
                return Deferred(self.until_ms(seconds))
            case outcomes.Interrupted(reason):
                return HandedBack(reason)
            case outcomes.Rejected(reason, detail):
                return Failed(MailNotSent(reason, detail), retry=False)
            case outcomes.Failed(detail, _, exhausted=True):
                return Failed(MailNotSent("exhausted", detail), retry=False)
            case outcomes.Failed(detail, seconds):
                return Failed(MailNotSent("failed", detail), delay_ms=round(seconds * 1000))
            case outcomes.InDoubt(_, resend=True):
                return HandedBack("in_doubt_resend")
            case outcomes.InDoubt(detail):
                return Failed(MailNotSent("in_doubt", detail), retry=False)
            case _:
                assert_never(outcome)


def _at_rest(request: Request, reason: str) -> int | None:
    """Name the campaign of which every mail has the same reason to wait."""
    if reason in RESTING:
        return request.campaign_id
    # Mails that jobs carry whole name senders of their own.
    is_campaigns = reason == SENDER_RESTS and isinstance(request, CampaignRequest)
    return request.campaign_id if is_campaigns else None


def _tell(outcome: Outcome) -> None:
    """Write the line of one mail: above debug only where it did not go out, and nobody is away."""
    match outcome:
        case outcomes.Rejected(reason):
            said = reason
        case outcomes.Failed(exhausted=exhausted):
            said = "exhausted" if exhausted else "failed"
        case outcomes.InDoubt(resend=False):
            said = "in_doubt"
        case (
            outcomes.Sent()
            | outcomes.Skipped()
            | outcomes.Deferred()
            | outcomes.Busy()
            | outcomes.Interrupted()
            | outcomes.InDoubt()
        ):
            log.debug("mail ended", outcome=type(outcome).__name__)
            return
        case _:
            assert_never(outcome)
    # The detail quotes the server, who may quote the mail: row and job have it.
    log.warning("mail not sent", outcome=said)


def _attempts(job: JobView) -> int:
    attempts = job.opts.get("attempts")
    return attempts if isinstance(attempts, int) else 1


def _added_ms(job: JobView) -> int | None:
    """Say when it was added; None where its word is no time that a column could hold."""
    return job.timestamp if 0 < job.timestamp <= _TIMESTAMP_MOST else None


def _context(job: JobView, request: Request) -> dict[str, object]:
    context: dict[str, object] = {
        "job_id": job.id,
        "queue": job.queue_name,
        "attempt": job.attempts_made + 1,
    }
    match request:
        case CampaignRequest(campaign_id, recipient_id, step):
            return context | {"campaign": campaign_id, "recipient": recipient_id, "step": step}
        case InlineRequest(campaign_id=campaign_id):
            return context | {"campaign": campaign_id}
        case _:
            assert_never(request)
