"""What delivery needs from the world, one small Protocol per need; storage and mail fulfil them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from campaign_worker.delivery.claims import Claim, Claimed
from campaign_worker.delivery.model import Accepted, Composed, Envelope
from campaign_worker.delivery.replay import Replayable
from campaign_worker.delivery.requests import InlineMail, JobRef, Request
from campaign_worker.delivery.settlements import (
    NextStep,
    SettleAnswer,
    Settlement,
    SpoolEntry,
)


class Session(Protocol):
    """One authenticated connection, or a place among the requests of a provider, for one mail."""

    async def send(
        self, envelope: Envelope, content: bytes, before_dot: Callable[[], Awaitable[None]]
    ) -> Accepted:
        """Send one mail; await `before_dot` before the first write that can make it complete.

        `content` is what the transport's `prepare` gave. Raises errors.SmtpRefused, SmtpLost,
        HttpRefused and HttpLost; errors.TransportDown and AddressError with nothing begun. What
        `before_dot` raises comes through unchanged, and nothing of the body has been written then.
        """
        ...


class Transport(Protocol):
    """A named way out, with a bounded number of connections."""

    @property
    def name(self) -> str:
        """The name that campaigns choose it by; `default` for SMTP_URL."""
        ...

    @property
    def replay_seconds(self) -> float | None:
        """How long the same content may be sent again without a second mail; None: never."""
        ...

    def prepare(self, mail: Composed, key: str) -> bytes:
        """Make the content that a session sends; `key` is the row's own, and never changes.

        Pure. Raises errors.PayloadError and AddressError.
        """
        ...

    def slot(self) -> AbstractAsyncContextManager[Session]:
        """Wait (FIFO) for a usable connection. Raises errors.TransportDown."""
        ...


class Ledger(Protocol):
    """The rows that decide. Every method raises errors.DatabaseAway."""

    async def claim(
        self, request: Request, token: str, job: JobRef, *, alone: bool = False
    ) -> Claim:
        """Claim the request's row under `token`, or say why not.

        `alone`: this process has nothing else in hand.
        """
        ...

    async def mark(
        self, row_id: int, token: str, message_id: str, replayable: Replayable | None = None
    ) -> bool:
        """Commit that sending of this Message-ID begins, and renew the lease.

        `replayable` is kept, if the row has none yet. False: the claim is lost, or the time of a
        repetition is over.
        """
        ...

    async def renew(self, owned: Sequence[tuple[int, str]]) -> set[int]:
        """Renew leases of (id, token); answer the ids that are still ours."""
        ...

    async def settle(self, settlement: Settlement) -> SettleAnswer:
        """Write a row's ending. Repeating it is safe."""
        ...


class Spool(Protocol):
    """Where outcomes wait that Postgres cannot take. Bounded; every method raises RedisAway."""

    async def put(self, settlement: Settlement) -> str:
        """Write an outcome down, without address or foreign text; the id of its entry."""
        ...

    async def drop(self, *entries: str) -> None:
        """Delete entries; those that are gone count as deleted."""
        ...

    async def page(self, after: str, limit: int) -> Sequence[SpoolEntry]:
        """Read entries by age; `after` is "-" for the first page, then "(" and the last id."""
        ...


class Composer(Protocol):
    """Makes bytes of a claim's content."""

    def checked(self, mail: InlineMail) -> InlineMail:
        """Return it with one address per entry, sure to compose; raises errors.PayloadError."""
        ...

    def compose(self, claimed: Claimed) -> Composed:
        """Render and build; pure. Raises errors.RenderError, AddressError, PayloadError."""
        ...


class Transports(Protocol):
    """The named ways out, and what is known of their health."""

    async def choose(self, request: Request) -> Transport:
        """Find the campaign's transport. Raises errors.SettingsError, DatabaseAway."""
        ...


class Gate(Protocol):
    """Stops intake while something of ours is away; opens it again by itself."""

    def database_away(self, error: Exception) -> None:
        """Hold intake until Postgres answers again."""
        ...

    def transport_down(self, transport: str, error: Exception) -> float | None:
        """Note that a transport is down; seconds to defer its jobs, or None when intake is held."""
        ...


class Signal(Protocol):
    """What a running job can see of a stop."""

    @property
    def aborted(self) -> bool:
        """The job must not begin anything that others can see."""
        ...

    @property
    def lock_lost(self) -> bool:
        """It was aborted because others may have the job by now, and for nothing else."""
        ...


class Pace(Protocol):
    """The shared send rate."""

    async def reserve(self) -> float:
        """Take the next place; seconds until it comes. Raises errors.RedisAway."""
        ...


class NextSteps(Protocol):
    """Adds the job of a follow-up whose row has been made."""

    async def add(self, step: NextStep, job: JobView) -> None:
        """Add it, delayed until it is due; what fails is left to the reconciler."""
        ...


class JobView(Protocol):
    """What delivery reads of a job."""

    id: str
    name: str
    data: Any
    opts: dict[str, Any]
    timestamp: int
    attempts_made: int
    queue_name: str
