"""The end of a send: what the server said becomes the row's ending and the job's outcome.

Judges answers; that an ending is written, whatever is away, is the writer's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import assert_never

import structlog

from campaign_worker.delivery import outcomes
from campaign_worker.delivery.breaker import Breakers, Judgement
from campaign_worker.delivery.claims import Claimed
from campaign_worker.delivery.classify import (
    HardBounce,
    Rejected,
    SenderRefused,
    Throttled,
    Transient,
    TransportRefuses,
    Unknown,
    Verdict,
    classify,
)
from campaign_worker.delivery.classify_http import Again, HttpVerdict, Mismatch, classify_http
from campaign_worker.delivery.model import Accepted, Composed, Refusal
from campaign_worker.delivery.outcomes import Outcome
from campaign_worker.delivery.ports import Gate
from campaign_worker.delivery.replay import pause_seconds
from campaign_worker.delivery.retry import Attempt, RetryPolicy, delay_seconds, is_last
from campaign_worker.delivery.senders import SENDER_RESTS, Sender, Senders
from campaign_worker.delivery.settlements import (
    Ending,
    FailReason,
    MarkFailed,
    MarkInDoubt,
    MarkReleased,
    MarkRetry,
    MarkSent,
    Settled,
    Settlement,
    Superseded,
)
from campaign_worker.delivery.writing import Writer
from campaign_worker.errors import (
    HttpLost,
    HttpRefused,
    SmtpLost,
    SmtpPhase,
    SmtpRefused,
    TooManyBounces,
)

log = structlog.get_logger(__name__)

WITHHELD = "suppression withheld"
"""Begins the detail of a row whose hard bounce came among too many to be believed."""

_SHORTEST_REST_SECONDS = 1.0
"""A server that has had enough is left alone at least this long, also with a floor of 0."""

Unaccepted = SmtpRefused | SmtpLost | HttpRefused | HttpLost
Answer = Accepted | Unaccepted


@dataclass(frozen=True, slots=True)
class Handed:
    """A mail that was handed to a transport, and the attempt that it was."""

    claim: Claimed
    mail: Composed
    transport: str
    attempt: Attempt
    campaign_id: int | None

    @property
    def sender(self) -> Sender:
        """Whose mail it is, as servers refuse it."""
        return Sender(self.transport, self.campaign_id, self.mail.envelope.sender)


class Endgame:
    """Has endings written and answers with outcomes."""

    def __init__(
        self,
        writer: Writer,
        gate: Gate,
        breakers: Breakers,
        senders: Senders,
        policy: RetryPolicy,
    ) -> None:
        self._writer = writer
        self._breakers = breakers
        self._senders = senders
        self._gate = gate
        self._policy = policy

    async def put_off(self, handed: Handed) -> Outcome | None:
        """Release a mail whose sender rests; None for one that may be tried."""
        wait = self._senders.wait(handed.sender)
        if wait is None:
            return None
        outcome = await self.settle(handed.claim, MarkReleased(wait.detail, wait.seconds))
        if isinstance(outcome, outcomes.Deferred):
            return replace(outcome, reason=SENDER_RESTS)
        return outcome

    async def settle_answer(self, handed: Handed, answer: Answer) -> Outcome:
        """Write what the server's answer means."""
        if isinstance(answer, Accepted):
            bounced, reply = _hard_bounced(answer), _reply(handed, answer)
            ending: Ending = MarkSent(handed.mail.message_id, reply, bounced)
            if many := len(answer.refused):
                row = handed.claim.id
                log.warning("accepted, but not for all recipients", row=row, refused=many)
        else:
            ending = self._ending_of(handed, answer)
        self._hear(handed, answer, ending)
        judgement = self._judged(handed, answer, ending)
        if not judgement.suppress:
            ending = _unbelieved(ending)
        return await self.settle(handed.claim, ending, withdraw=judgement.withdraw)

    async def settle(
        self, claim: Claimed, ending: Ending, *, withdraw: tuple[int, ...] = ()
    ) -> Outcome:
        """Write one ending and say what it means for the job."""
        settlement = Settlement(claim.id, claim.token, ending, withdraw)
        answer = await self._writer.write(settlement)
        match answer:
            case Settled(next_step):
                return outcomes.of_ending(ending, next_step)
            case Superseded():
                # Somebody else owns the row, or an operator ended it: it will say what to do.
                return outcomes.Busy(seconds=1.0)
            case _:
                assert_never(answer)

    async def end_doubt(self, claim: Claimed, attempt: Attempt, detail: str) -> Outcome:
        """End a row whose request may have been executed, and must not be repeated."""
        message_id = "" if claim.replay is None else claim.replay.message_id
        again = self._policy.resend_ambiguous and not is_last(attempt, claim.attempts)
        return await self.settle(claim, MarkInDoubt(message_id, detail, resend=again))

    async def give_up(
        self, claim: Claimed, mail: Composed, *, marked: bool, replays: bool, cancelled: bool
    ) -> None:
        """Write how far an interrupted send came: in doubt after the mark, released before it.

        With a transport that `replays` it is released in any case. A cancelled job waits for
        Postgres only for its last moment.
        """
        ending: Ending = MarkReleased("interrupted")
        if marked and replays:
            ending = MarkReleased("cut off after sending had begun", unknown=True)
        elif marked:
            ending = MarkInDoubt(mail.message_id, "cut off after sending had begun")
        settlement = Settlement(claim.id, claim.token, ending)
        if cancelled:
            await self._writer.write_at_last(settlement)
        else:
            await self._writer.write(settlement)

    def _hear(self, handed: Handed, answer: Answer, ending: Ending) -> None:
        """Tell the senders what came of one of their mails; of a refused MAIL they know."""
        match answer, ending:
            case Accepted(), _:
                self._senders.accepted(handed.sender)
            case _, MarkFailed(FailReason.REJECTED):
                self._senders.rejected(handed.sender, handed.claim.id)
            case SmtpRefused(phase=SmtpPhase.RCPT | SmtpPhase.DATA | SmtpPhase.BODY), _:
                self._senders.passed(handed.sender)
            case _:
                pass  # no word about the sender: the connection was lost, or MAIL was refused

    def _judged(self, handed: Handed, answer: Answer, ending: Ending) -> Judgement:
        """Have the breaker look at the mail's RCPTs; one that trips stops the intake."""
        recipients = len(handed.mail.envelope.recipients)
        match answer, ending:
            case Accepted(), MarkSent(hard_bounced=bounced):
                hard, other = len(bounced), recipients - len(bounced)
            case _, MarkFailed(FailReason.HARD_BOUNCE):
                hard, other = recipients, 0
            case SmtpRefused(phase=SmtpPhase.RCPT | SmtpPhase.DATA | SmtpPhase.BODY), _:
                hard, other = 0, recipients
            case _:
                return Judgement()
        name = handed.transport
        judgement = self._breakers.note(name, handed.claim.id, hard=hard, other=other)
        if judgement.tripped:
            self._gate.transport_down(name, TooManyBounces(name, self._breakers.rest_seconds(name)))
        return judgement

    def _ending_of(self, handed: Handed, error: Unaccepted) -> Ending:
        attempt, last = handed.attempt, is_last(handed.attempt, handed.claim.attempts)
        verdict = _judge(error)
        match verdict:
            case HardBounce(detail):
                everybody = _at_fault(handed.mail.envelope.recipients, error)
                return MarkFailed(
                    FailReason.HARD_BOUNCE, detail, attempt_spent=True, suppress=everybody
                )
            case Rejected(detail):
                return MarkFailed(FailReason.REJECTED, detail, attempt_spent=True)
            case Transient(detail, _) if last:
                return MarkFailed(FailReason.EXHAUSTED, detail, attempt_spent=True)
            case Transient(detail, hint_seconds):
                return MarkRetry(detail, delay_seconds(self._policy, attempt, hint_seconds))
            case Throttled(detail, hint_seconds):
                pause_seconds = max(hint_seconds or 0.0, self._policy.floor_seconds)
                return MarkReleased(detail, max(pause_seconds, _SHORTEST_REST_SECONDS))
            case TransportRefuses() | SenderRefused():
                return self._refused(handed, verdict, error)
            case Unknown(detail):
                again = self._policy.resend_ambiguous and not last
                return MarkInDoubt(handed.mail.message_id, detail, resend=again)
            case Again():
                return self._repeated(handed, verdict, error)
            case Mismatch(detail):
                return MarkInDoubt(handed.mail.message_id, detail)
            case _:
                assert_never(verdict)

    def _refused(
        self, handed: Handed, verdict: TransportRefuses | SenderRefused, error: Unaccepted
    ) -> MarkReleased:
        if isinstance(verdict, SenderRefused):
            wait = self._senders.refused(handed.sender, handed.claim.id, verdict.detail)
            return MarkReleased(wait.detail, wait.seconds)
        # The transport rests. The mail steps back too, in case the refusal is its own.
        self._gate.transport_down(handed.transport, error)
        floor_seconds = max(self._policy.floor_seconds, _SHORTEST_REST_SECONDS)
        return MarkReleased(verdict.detail, floor_seconds)

    def _repeated(self, handed: Handed, verdict: Again, error: Unaccepted) -> Ending:
        if verdict.rests:
            self._gate.transport_down(handed.transport, error)
        floor_seconds = max(self._policy.floor_seconds, _SHORTEST_REST_SECONDS)
        replay = handed.claim.replay
        age_seconds = 0.0 if replay is None else replay.age_seconds
        seconds = pause_seconds(floor_seconds, age_seconds, verdict.hint_seconds)
        return MarkReleased(verdict.detail, seconds, unknown=True)


def _judge(error: Unaccepted) -> Verdict | HttpVerdict:
    return classify_http(error) if isinstance(error, HttpRefused | HttpLost) else classify(error)


def _unbelieved(ending: Ending) -> Ending:
    """Leave the suppression out, and say so in the row, for an operator to decide."""
    match ending:
        case MarkFailed(FailReason.HARD_BOUNCE, detail, attempt_spent):
            return MarkFailed(FailReason.HARD_BOUNCE, f"{WITHHELD}: {detail}", attempt_spent)
        case MarkSent(message_id, reply, hard_bounced) if hard_bounced:
            return MarkSent(message_id, f"{WITHHELD}: {reply}")
        case _:
            return ending


def _at_fault(recipients: tuple[str, ...], error: Unaccepted) -> tuple[str, ...]:
    """Say whose address is dead.

    At RCPT the mildest of all refusals speaks for all recipients; after that one reply stands for
    the whole mail, and of several recipients nobody can tell whose it is.
    """
    alone = len(recipients) == 1
    at_rcpt = isinstance(error, SmtpRefused) and error.phase is SmtpPhase.RCPT
    return recipients if alone or at_rcpt else ()


def _reply(handed: Handed, answer: Accepted) -> str:
    """Give what the server said, and how many of several recipients it refused."""
    if not answer.refused:
        return answer.reply
    first = answer.refused[0]
    of = f"{len(answer.refused)} of {len(handed.mail.envelope.recipients)} recipients"
    return f"{answer.reply}; {of} refused: {first.code} {first.text}"


def _hard_bounced(answer: Accepted) -> tuple[Refusal, ...]:
    return tuple(
        refusal
        for refusal in answer.refused
        if isinstance(
            classify(SmtpRefused(SmtpPhase.RCPT, refusal.code, refusal.enhanced, refusal.text)),
            HardBounce,
        )
    )
