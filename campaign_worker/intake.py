"""Stops intake while something of ours is away, probes it, and opens intake again.

The queue is not churned meanwhile: jobs in hand go back once, and no new ones are taken.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import structlog

from campaign_worker.errors import ContractBroken, SmtpPhase, TransportDown
from metrics import IntakeHeld, Listener
from shutdown import StartStop, end

log = structlog.get_logger(__name__)

_DATABASE_PROBE_SECONDS = 0.25
_RELAPSE_SECONDS = 10.0

_CONTRACT_PROBE_SECONDS = 2.0

_DEFER_SECONDS_MOST = 60.0
"""For how long a job of one transport among several sleeps at most while that is down."""

_DATABASE = "postgres"

Probe = Callable[[], Awaitable[object]]


class Holder(Protocol):
    """What takes jobs in: a queue worker."""

    def hold(self, reason: str) -> None:
        """Take nothing more while any reason holds."""
        ...

    def release(self, reason: str) -> None:
        """Drop one reason."""
        ...


class IntakeGate(StartStop):
    """Fulfils delivery's Gate. Probes raise while the thing they ask is away.

    With a single transport its outage holds all intake; with several, only the jobs of the one that
    is down are deferred, none of them tries it, and the others go on.
    """

    def __init__(
        self,
        *,
        probe_database: Probe,
        probe_transports: Mapping[str, Probe],
        listener: Listener,
        transport_probe_seconds: float,
        probe_contract: Probe | None = None,
        contract_probe_seconds: float = _CONTRACT_PROBE_SECONDS,
    ) -> None:
        super().__init__()
        self._contract_probe_seconds = contract_probe_seconds
        self._probe_contract = probe_contract
        self._details: dict[str, str] = {}
        self._probe_database = probe_database
        self._probe_transports = probe_transports
        self._listener = listener
        self._transport_probe_seconds = transport_probe_seconds
        self._holders: Sequence[Holder] = ()
        self._database_back_at = -math.inf
        self._database_pause_seconds = _DATABASE_PROBE_SECONDS
        self._probing: dict[str, asyncio.Task[None]] = {}
        self._down_since: dict[str, float] = {}
        """By transport, where there are several: those that hold nobody else."""
        self._stopped = False

    @property
    def reasons(self) -> list[str]:
        """What is away now, and why where that is for people to mend."""
        return sorted(
            f"{one}: {self._details[one]}" if one in self._details else one for one in self._probing
        )

    def attach(self, holders: Sequence[Holder]) -> None:
        """Name the workers to hold."""
        self._holders = holders
        for reason in self._probing:
            for holder in () if self._holds_nobody(reason) else holders:
                holder.hold(reason)

    def database_away(self, error: Exception) -> None:
        """Hold intake until Postgres answers again, or takes the contract's statements."""
        if isinstance(error, ContractBroken) and self._probe_contract is not None:
            reason = f"contract {error.statement}"
            self._details[reason] = error.problem
            self._hold(reason, error, self._probe_contract, self._contract_probe_seconds)
            return
        self._hold(_DATABASE, error, self._probe_database, self._database_pause())

    def transport_down(self, transport: str, error: Exception) -> float | None:
        """Note that a transport is down; seconds to defer its jobs, or None: intake is held."""
        several = len(self._probe_transports) > 1
        now = time.monotonic()
        if several and not self._stopped:
            self._down_since.setdefault(transport, now)
        probe = self._probe_transports[transport]
        self._hold(_of(transport), error, probe, self._transport_probe_seconds)
        if not several:
            return None
        lasted = now - self._down_since.get(transport, now)
        # As long again as it has been down: ever fewer look, however many wait.
        return max(self._transport_probe_seconds, min(lasted, _DEFER_SECONDS_MOST))

    def check(self, transport: str) -> None:
        """Raise TransportDown for one among several that is known to be down: a probe tries it."""
        if transport in self._down_since:
            raise TransportDown(transport, SmtpPhase.CONNECT, "it is down and being probed")

    def _holds_nobody(self, reason: str) -> bool:
        return any(reason == _of(transport) for transport in self._down_since)

    def _database_pause(self) -> float:
        """Seconds between probes: longer while Postgres answers probes but takes no statements."""
        now = time.monotonic()
        relapsed = now - self._database_back_at < _RELAPSE_SECONDS
        longer = min(self._database_pause_seconds * 2, _RELAPSE_SECONDS)
        self._database_pause_seconds = longer if relapsed else _DATABASE_PROBE_SECONDS
        return self._database_pause_seconds

    async def _start(self) -> None:
        self._stopped = False

    async def _stop(self) -> None:
        # Holds stay: a worker that stops takes nothing in anyway. Jobs that drain may still find
        # something away; nobody would end a probe that began now.
        self._stopped = True
        await end(*self._probing.values())

    def _hold(self, reason: str, error: Exception, probe: Probe, every_seconds: float) -> None:
        if self._stopped or reason in self._probing:
            return
        log.warning("intake held", away=reason, error=str(error))
        self._listener.on_event(IntakeHeld(reason, held=True))
        holders = () if self._holds_nobody(reason) else self._holders
        for holder in holders:
            holder.hold(reason)
        # A context of its own: what the probe logs is not about the job that met the outage.
        task = asyncio.create_task(
            self._probe(reason, probe, every_seconds),
            name=f"probe {reason}",
            context=contextvars.Context(),
        )
        self._probing[reason] = task

    async def _probe(self, reason: str, probe: Probe, every_seconds: float) -> None:
        try:
            while True:
                await asyncio.sleep(every_seconds)
                try:
                    await probe()
                except Exception as error:  # noqa: BLE001 - whatever it is, it is still away
                    log.debug("still away", away=reason, error=str(error))
                else:
                    break
        finally:
            del self._probing[reason]
            apart = self._holds_nobody(reason)
            self._down_since.pop(reason.removeprefix(_of("")), None)
        if reason == _DATABASE:
            self._database_back_at = time.monotonic()
        log.info("intake open again", back=reason)
        self._listener.on_event(IntakeHeld(reason, held=False))
        for holder in () if apart else self._holders:
            holder.release(reason)


def _of(transport: str) -> str:
    return f"transport {transport}"
