"""One mail, in this order: a transport slot, the claim, compose, send, settle.

Nothing ages inside a claim while it waits for a connection. Every step that others can see is
preceded by a look at the stop signal and the lease. What happened after the mark is never guessed:
it is written as sent, refused, or in doubt.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable
from dataclasses import dataclass, replace
from typing import assert_never

import structlog

from campaign_worker.delivery import outcomes
from campaign_worker.delivery.claims import (
    Busy,
    Claim,
    Claimed,
    Final,
    GoesAlone,
    MessageState,
    Missing,
    NotYet,
)
from campaign_worker.delivery.company import Company
from campaign_worker.delivery.endgame import Answer, Endgame, Handed
from campaign_worker.delivery.hearing import hear_out
from campaign_worker.delivery.leases import Lease, Leases
from campaign_worker.delivery.mark import Mark, NothingBegun, may_go
from campaign_worker.delivery.model import Accepted, Composed, Envelope
from campaign_worker.delivery.outcomes import Outcome
from campaign_worker.delivery.ports import (
    Composer,
    Ledger,
    Pace,
    Session,
    Signal,
    Transport,
    Transports,
)
from campaign_worker.delivery.replay import Replayable, obstacle, request_key
from campaign_worker.delivery.requests import InlineRequest, JobRef, Request
from campaign_worker.delivery.retry import Attempt
from campaign_worker.delivery.settlements import FailReason, MarkFailed, MarkReleased
from campaign_worker.errors import (
    AddressError,
    HttpLost,
    HttpRefused,
    PayloadError,
    RenderError,
    SmtpLost,
    SmtpPhase,
    SmtpRefused,
)
from metrics import Listener, MailSent

log = structlog.get_logger(__name__)

_PACE_WAIT_SECONDS = 5.0
"""A place in the send rate that is further away than this sends the job back to delayed."""


@dataclass(frozen=True, slots=True)
class Run:
    """One job's run through the pipeline."""

    request: Request
    job: JobRef
    attempt: Attempt
    signal: Signal
    alone: bool = False


class Pipeline:
    """Delivers one request at a time per call; calls run side by side."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        leases: Leases,
        transports: Transports,
        composer: Composer,
        pace: Pace,
        endgame: Endgame,
        listener: Listener,
    ) -> None:
        self._ledger = ledger
        self._leases = leases
        self._transports = transports
        self._composer = composer
        self._pace = pace
        self._endgame = endgame
        self._listener = listener
        self._company = Company()

    async def deliver(self, run: Run) -> Outcome:
        """Take the request to its outcome.

        Raises errors.PayloadError, DatabaseAway, TransportDown, RedisAway, SettingsError, all with
        nothing begun.
        """
        if isinstance(run.request, InlineRequest):
            mail = self._composer.checked(run.request.mail)
            run = replace(run, request=replace(run.request, mail=mail))
        transport = await self._transports.choose(run.request)
        async with self._company.beside():
            outcome = await self._deliver(run, transport)
        while isinstance(outcome, GoesAlone):
            # Beside others they would count a death for this mail's fault.
            async with self._company.alone():
                outcome = await self._deliver(replace(run, alone=True), transport)
        return outcome

    async def _deliver(self, run: Run, transport: Transport) -> Outcome | GoesAlone:
        async with transport.slot() as session:
            wait_seconds = await self._pace.reserve()
            if wait_seconds > _PACE_WAIT_SECONDS:
                return outcomes.Deferred("send_rate", wait_seconds)
            if wait_seconds > 0:
                await asyncio.sleep(wait_seconds)
            if run.signal.aborted:
                return outcomes.Interrupted("stopping")
            token = str(uuid.uuid4())
            claim = await self._ledger.claim(run.request, token, run.job, alone=run.alone)
            if isinstance(claim, GoesAlone):
                return claim
            if not isinstance(claim, Claimed):
                return outcome_of(claim)
            with self._leases.hold(claim) as lease:
                return await self._send(run, claim, lease, session, transport)

    async def _send(
        self, run: Run, claim: Claimed, lease: Lease, session: Session, transport: Transport
    ) -> Outcome:
        replays = transport.replay_seconds is not None
        if claim.replay is not None:
            problem = obstacle(claim.replay, transport.name, replays=replays)
            if problem is not None:
                return await self._endgame.end_doubt(claim, run.attempt, problem)
        try:
            mail = self._composed(claim, transport)
        except Exception as error:  # noqa: BLE001 - it would be the same at every try
            return await self._endgame.settle(claim, _unfit(claim, error))
        if not may_go(run.signal, lease):
            return await self._endgame.settle(claim, MarkReleased("interrupted"))
        handed = Handed(claim, mail, transport.name, run.attempt, run.request.campaign_id)
        put_off = await self._endgame.put_off(handed)
        if put_off is not None:
            return put_off
        kept = _replayable(mail, transport)
        mark = Mark(self._ledger, run.signal, claim, lease, mail.message_id, kept)
        began_at = time.monotonic()
        try:
            sending = _answer(session.send(mail.envelope, mail.content, mark))
            # A lock is the job's matter. The row is ours, and nobody else hears what becomes of it.
            answer = await hear_out(sending, lambda: mark.committed and run.signal.lock_lost)
        except NothingBegun:
            # Unless the first of two requests had begun, whose connection broke.
            released = MarkReleased("interrupted", unknown=mark.committed)
            return await self._endgame.settle(claim, released)
        except AddressError as error:
            return await self._endgame.settle(claim, _unfit(claim, error))
        except BaseException as error:
            # Cancelled at the stop deadline, or Postgres was away at the mark.
            if mark.committed:
                cut = MailSent(transport.name, "cut_off", time.monotonic() - began_at)
                self._listener.on_event(cut)
            await self._endgame.give_up(
                claim,
                mail,
                marked=mark.committed,
                replays=replays,
                cancelled=isinstance(error, asyncio.CancelledError),
            )
            raise
        event = MailSent(transport.name, _result(answer), time.monotonic() - began_at)
        self._listener.on_event(event)
        return await self._endgame.settle_answer(handed, answer)

    def _composed(self, claim: Claimed, transport: Transport) -> Composed:
        if claim.replay is not None:
            # Its very bytes: campaign, settings and our own code may have changed since.
            return Composed(Envelope("", ()), claim.replay.request, claim.replay.message_id)
        mail = self._composer.compose(claim)
        key = request_key(claim.id, claim.created_at_epoch, claim.message_key)
        return replace(mail, content=transport.prepare(mail, key))


def _unfit(claim: Claimed, error: Exception) -> MarkFailed:
    """Give the ending of a mail that cannot be made, or handed over, as it is."""
    problem = str(error)
    if not isinstance(error, RenderError | AddressError | PayloadError):
        # A mistake of ours: the row says so too, instead of coming back for ever.
        log.error("a mail could not be composed", row=claim.id, exc_info=error)
        problem = f"{type(error).__name__}: {problem}"
    return MarkFailed(FailReason.RENDER_ERROR, problem, attempt_spent=False)


def _replayable(mail: Composed, transport: Transport) -> Replayable | None:
    seconds = transport.replay_seconds
    return None if seconds is None else Replayable(transport.name, mail.content, seconds)


async def _answer(sending: Awaitable[Accepted]) -> Answer:
    try:
        return await sending
    except (SmtpRefused, SmtpLost, HttpRefused, HttpLost) as error:
        return error


def outcome_of(claim: Claim) -> Outcome:
    """Say what a claim that is none means for the job. Raises PayloadError for Missing."""
    match claim:
        case Final(state, reason, message_id):
            return _outcome_of_final(state, reason, message_id)
        case Busy(seconds):
            return outcomes.Busy(seconds)
        case NotYet(reason, seconds):
            return outcomes.Deferred(reason, seconds)
        case Missing(field, problem):
            raise PayloadError(field, problem)
        case Claimed() | GoesAlone():
            raise AssertionError("such a row is sent, now or alone")
        case _:
            assert_never(claim)


def _outcome_of_final(state: MessageState, reason: str | None, message_id: str | None) -> Outcome:
    match state:
        case MessageState.SENT:
            return outcomes.Sent(message_id)
        case MessageState.SKIPPED:
            return outcomes.Skipped(reason or "skipped")
        case MessageState.FAILED:
            return outcomes.Rejected(reason or "failed", "the row has failed before")
        case MessageState.IN_DOUBT:
            return outcomes.InDoubt("the answer to the final dot never came", resend=False)
        case MessageState.SCHEDULED | MessageState.SENDING:
            raise AssertionError("such a row is not final")
        case _:
            assert_never(state)


def _result(answer: Answer) -> str:
    match answer:
        case Accepted():
            return "accepted"
        case SmtpRefused() | HttpRefused():
            return "refused"
        case HttpLost():
            return "unknown"
        case SmtpLost(phase=phase):
            return "unknown" if phase is SmtpPhase.BODY else "lost"
        case _:
            assert_never(answer)
