"""A pipeline over a real ledger; transport, composer and the job of the queue are played here."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from typing import TYPE_CHECKING, Any

from campaign_worker.delivery.breaker import Breakers
from campaign_worker.delivery.endgame import Endgame
from campaign_worker.delivery.leases import Leases
from campaign_worker.delivery.model import Accepted, Composed, Envelope
from campaign_worker.delivery.pipeline import Pipeline
from campaign_worker.delivery.processor import MailProcessor, ProcessorOptions
from campaign_worker.delivery.retry import RetryPolicy
from campaign_worker.delivery.routing import Routing
from campaign_worker.delivery.senders import Senders
from campaign_worker.delivery.settlements import Settlement, SpoolEntry
from campaign_worker.delivery.writing import Writer
from campaign_worker.errors import SmtpLost, SmtpPhase, SmtpRefused
from campaign_worker.intake import IntakeGate
from campaign_worker.queue.abort import AbortSignal
from tests.integration.storage.kit import LEASE_SECONDS, World, world_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from campaign_worker.delivery.claims import Claimed
    from campaign_worker.delivery.ports import Transport
    from campaign_worker.delivery.requests import CampaignRequest, InlineMail
    from campaign_worker.delivery.settlements import NextStep
    from campaign_worker.mail.compose import MailComposer
    from campaign_worker.queue.endings import Ending
    from metrics import Event

NOW_MS = 1_000_000_000
ACCEPTED = Accepted("250 2.0.0 queued")


class Composer:
    """Composes the claim's key; raises what it was told to."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.recipients: tuple[str, ...] = ("to@example.com",)
        self.sender = "from@example.com"

    def checked(self, mail: InlineMail) -> InlineMail:
        if self.error is not None:
            raise self.error
        return mail

    def compose(self, claimed: Claimed) -> Composed:
        if self.error is not None:
            raise self.error
        envelope = Envelope(self.sender, self.recipients)
        return Composed(envelope, claimed.message_key.encode(), f"<{claimed.message_key}@x>")


class Smtp:
    """A transport with one session; it notes what happens to it, and answers as told.

    `answers` are taken one a mail: Accepted, or an exception. `before_mark` and `after_mark` are
    awaited around the mark, the latter where the body would travel.
    """

    def __init__(self, name: str = "default") -> None:
        self.name = name
        self.log: list[str] = []
        self.answers: list[Accepted | Exception] = []
        self.down: Exception | None = None
        self.before_mark: Callable[[], Awaitable[object]] | None = None
        self.after_mark: Callable[[], Awaitable[object]] | None = None

    replay_seconds: float | None = None

    def prepare(self, mail: Composed, _key: str) -> bytes:
        return mail.content

    @contextlib.asynccontextmanager
    async def slot(self) -> AsyncIterator[Smtp]:
        if self.down is not None:
            raise self.down
        self.log.append("slot")
        try:
            yield self
        finally:
            self.log.append("slot free")

    async def send(
        self, _envelope: Envelope, _content: bytes, before_dot: Callable[[], Awaitable[None]]
    ) -> Accepted:
        answer = self.answers.pop(0) if self.answers else ACCEPTED
        self.log.append("mail")
        if self.before_mark is not None:
            await self.before_mark()
        if isinstance(answer, SmtpRefused | SmtpLost) and answer.phase is not SmtpPhase.BODY:
            raise answer
        await before_dot()
        self.log.append("body")
        if self.after_mark is not None:
            await self.after_mark()
        if isinstance(answer, Exception):
            raise answer
        return answer


class Pace:
    """A send rate that says what it is told."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.error: Exception | None = None

    async def reserve(self) -> float:
        if self.error is not None:
            raise self.error
        return self.seconds


@dataclasses.dataclass
class Job:
    """What delivery reads of a job."""

    data: Any
    id: str = "job-1"
    name: str = "send-email"
    opts: dict[str, Any] = dataclasses.field(default_factory=lambda: {"attempts": 3})
    timestamp: int = 5
    attempts_made: int = 0
    queue_name: str = "campaign"


class Notebook:
    """A spool that never fails; `written` is all that was ever put into it."""

    def __init__(self) -> None:
        self.written: list[Settlement] = []
        self.entries: dict[str, SpoolEntry] = {}

    async def put(self, settlement: Settlement) -> str:
        self.written.append(settlement)
        entry = f"{len(self.written)}-0"
        self.entries[entry] = SpoolEntry(entry, settlement)
        return entry

    async def drop(self, *entries: str) -> None:
        for entry in entries:
            self.entries.pop(entry, None)

    async def page(self, after: str, _limit: int) -> Sequence[SpoolEntry]:
        return list(self.entries.values()) if after == "-" else []


class Notes:
    """A listener, a holder of intake and a scheduler of follow-ups that note what they are told."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.held: list[str] = []
        self.steps: list[NextStep] = []

    def on_event(self, event: Event) -> None:
        self.events.append(event)

    def hold(self, reason: str) -> None:
        self.held.append(f"hold {reason}")

    def release(self, reason: str) -> None:
        self.held.append(f"release {reason}")

    async def add(self, step: NextStep, _job: object) -> None:
        self.steps.append(step)


class Bench:
    """A processor over the world's ledger, with everything around it in reach."""

    def __init__(
        self,
        world: World,
        *,
        others: Sequence[Transport] = (),
        composer: MailComposer | None = None,
        **policy: Any,
    ) -> None:
        self.world = world
        self.smtp = Smtp()
        self.composer = Composer()
        self.pace = Pace()
        self.spool = Notebook()
        self.notes = Notes()
        self.signal = AbortSignal()
        every: list[Transport] = [self.smtp, *others]
        transports = {one.name: one for one in every}
        self.gate = IntakeGate(
            probe_database=world.database.ping,
            probe_transports=dict.fromkeys(transports, self._probe),
            listener=self.notes,
            transport_probe_seconds=0.01,
        )
        self.gate.attach([self.notes])
        self.leases = Leases(world.ledger, lease_seconds=LEASE_SECONDS)
        given = {"floor_seconds": 60.0, "resend_ambiguous": False} | policy
        self.now = 0.0
        self.breakers = Breakers(
            transports, self.notes, pause_seconds=600.0, clock=lambda: self.now
        )
        self.senders = Senders(
            self.notes, floor_seconds=given["floor_seconds"], clock=lambda: self.now
        )
        self.rested: list[tuple[str, int]] = []
        writer = Writer(world.ledger, self.spool, self.gate)
        pipeline = Pipeline(
            ledger=world.ledger,
            leases=self.leases,
            transports=Routing(transports, world.campaigns.transports, self.breakers.check),
            composer=composer or self.composer,
            pace=self.pace,
            endgame=Endgame(writer, self.gate, self.breakers, self.senders, RetryPolicy(**given)),
            listener=self.notes,
        )
        self.options = ProcessorOptions(
            park_unknown=True,
            now_ms=lambda: NOW_MS,
            backoff_seconds=_backoff,
            on_rest=lambda queue, campaign_id: self.rested.append((queue, campaign_id)),
        )
        self.processor = MailProcessor(pipeline, self.gate, self.notes, self.notes, self.options)

    async def _probe(self) -> None:
        if self.smtp.down is not None:
            raise self.smtp.down

    async def run(self, request: CampaignRequest | Job) -> Ending:
        """Process one job to its ending."""
        job = request if isinstance(request, Job) else job_of(request)
        return await self.processor(job, "token", self.signal)

    async def running(self, request: CampaignRequest) -> asyncio.Task[Ending]:
        """Begin to process a job, beside the test."""
        return asyncio.create_task(self.run(request))


def job_of(request: CampaignRequest, **more: Any) -> Job:
    data = {"campaignId": request.campaign_id, "recipientId": request.recipient_id}
    if request.step:
        return Job(data | {"step": request.step}, name="follow-up", **more)
    return Job(data, **more)


async def _backoff(_job: object) -> float:
    return 0.1


@contextlib.asynccontextmanager
async def bench_of(url: str, **options: Any) -> AsyncIterator[Bench]:
    """Give a bench over a database; its gate stops at the end."""
    async with world_of(url) as world:
        bench = Bench(world, **options)
        await bench.gate.start()
        try:
            yield bench
        finally:
            await bench.gate.stop()
