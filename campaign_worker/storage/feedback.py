"""What providers report, as facts of rows: bounces, complaints, suppressions, follow-ups that stop.

One transaction for each batch of reports. Idempotent by the provider's event id: a report that is
delivered again finds itself and changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, assert_never

from asyncpg.pool import PoolConnectionProxy

from campaign_worker.storage.batcher import Batcher
from campaign_worker.storage.database import Database
from campaign_worker.tracking.webhooks.feedback import (
    Acted,
    Complaint,
    HardBounce,
    Recorded,
    Report,
    SoftBounce,
)
from metrics import Listener

_CAMPAIGNS_OWN = re.compile(r"<([0-9]{1,18})\.([0-9]{1,18})\.([0-9]{1,9})\.campaign-worker@.+>")
_UNKNOWN = ""
"""The address of a report that names none: NULL would be unlike itself in a primary key."""


@dataclass(frozen=True, slots=True)
class _Fact:
    """One report about one address, normalized, and the mail that it was found to be about."""

    report: Acted
    address: str
    occurred_at: datetime
    row: Any = None

    @property
    def identity(self) -> tuple[str, str, str]:
        return (self.report.provider.value, self.report.event_id, self.address)


class PostgresFeedback:
    """Fulfils webhooks.FeedbackStore. `normalize` gives the form that suppressions are kept in."""

    def __init__(
        self, database: Database, *, normalize: Callable[[str], str], listener: Listener
    ) -> None:
        self._database = database
        self._normalize = normalize
        self._batcher: Batcher[Acted, Recorded] = Batcher("feedback", self._execute, listener)

    async def record(self, report: Acted) -> Recorded:
        """Commit a report and what follows. Raises errors.DatabaseAway, errors.RowRefused."""
        return await self._batcher.submit(report)

    async def _execute(self, reports: Sequence[Acted]) -> list[Recorded]:
        now = datetime.now(UTC)
        facts = [fact for report in reports for fact in self._facts(report, now)]
        # Of two that are the same event the first is new.
        facts = list({fact.identity: fact for fact in reversed(facts)}.values())
        async with self._database.transaction() as connection:
            found = await self._find(connection, facts)
            rows = await connection.fetch(self._database.sql["insert_feedback"], *_columns(found))
            new = {(row["provider"], row["event_id"], row["address"]) for row in rows}
            await self._apply(connection, [fact for fact in found if fact.identity in new])
        events = {identity[:2] for identity in new}
        answers = []
        for report in reports:
            key = (report.provider.value, report.event_id)
            answers.append(Recorded.APPLIED if key in events else Recorded.KNOWN)
            events.discard(key)
        return answers

    def _facts(self, report: Acted, now: datetime) -> list[_Fact]:
        addresses = [self._normalize(address) for address in report.addresses] or [_UNKNOWN]
        # A clock that goes fast may be the provider's.
        at = min(report.occurred_at or now, now)
        return [_Fact(report, address, at) for address in dict.fromkeys(addresses)]

    async def _find(self, connection: PoolConnectionProxy, facts: Sequence[_Fact]) -> list[_Fact]:
        """Give each fact the row of its mail, where there is one."""
        names = [_CAMPAIGNS_OWN.fullmatch(fact.report.message_id or "") for fact in facts]
        keys = [tuple(map(int, name.groups())) if name else (None,) * 3 for name in names]
        rows = await connection.fetch(
            self._database.sql["find_feedback_messages"],
            list(range(len(facts))),
            *([key[index] for key in keys] for index in range(3)),
            [fact.report.message_id for fact in facts],
            [fact.report.provider_id for fact in facts],
            [fact.address for fact in facts],
            [fact.occurred_at for fact in facts],
        )
        by_order = {row["ord"]: row for row in rows}
        return [
            _Fact(fact.report, fact.address, fact.occurred_at, by_order.get(order))
            for order, fact in enumerate(facts)
        ]

    async def _apply(self, connection: PoolConnectionProxy, facts: Sequence[_Fact]) -> None:
        """Write what follows from reports that are new."""
        acting = [fact for fact in facts if not isinstance(fact.report, SoftBounce)]
        if not acting:
            return
        sql = self._database.sql
        known = [fact for fact in acting if fact.row is not None]
        ids = sorted({fact.row["id"] for fact in known})
        stopped = _strongest((fact.row["recipient_id"], _reason(fact)) for fact in known)
        if known:
            await connection.fetch(sql["lock_for_feedback"], ids, sorted(stopped))
            bounced, complained = _times(known, HardBounce), _times(known, Complaint)
            await connection.execute(
                sql["mark_feedback"],
                ids,
                [bounced.get(i) for i in ids],
                [complained.get(i) for i in ids],
            )
        if stopped:
            reasons = [f"suppressed_{reason}" for reason in stopped.values()]
            await connection.fetch(sql["stop_follow_ups"], list(stopped), reasons)
        entries = self._suppressions(acting)
        if entries:
            await connection.execute(
                sql["suppress_by_feedback"],
                *([entry[index] for entry in entries] for index in range(4)),
            )

    def _suppressions(self, facts: Sequence[_Fact]) -> list[tuple[str, str, int | None, str]]:
        entries: dict[str, tuple[str, str, int | None, str]] = {}
        for fact in sorted(facts, key=lambda fact: _reason(fact) == _COMPLAINT):
            own = None if fact.row is None else fact.row["email"]
            message = None if fact.row is None else fact.row["id"]
            # The address as we wrote it, too: a provider may report where it was forwarded to.
            for address in {fact.address, self._normalize(own) if own else _UNKNOWN} - {_UNKNOWN}:
                entries[address] = (address, _reason(fact), message, fact.report.detail)
        return list(entries.values())


_COMPLAINT = "complaint"


def _reason(fact: _Fact) -> str:
    """Name the reason of a suppression."""
    match fact.report:
        case HardBounce():
            return "hard_bounce"
        case Complaint():
            return _COMPLAINT
        case SoftBounce():
            return "soft_bounce"
        case _:
            assert_never(fact.report)


def _strongest(pairs: Iterable[tuple[int | None, str]]) -> dict[int, str]:
    """Keep one reason for each recipient: a complaint, if there is one."""
    kept: dict[int, str] = {}
    for recipient, reason in pairs:
        if recipient is not None and kept.get(recipient) != _COMPLAINT:
            kept[recipient] = reason
    return kept


def _times(facts: Sequence[_Fact], kind: type[Report]) -> dict[int, datetime]:
    """Give the first time of each mail at which it was so."""
    times: dict[int, datetime] = {}
    for fact in facts:
        if isinstance(fact.report, kind):
            row_id = fact.row["id"]
            times[row_id] = min(times.get(row_id, fact.occurred_at), fact.occurred_at)
    return times


def _columns(facts: Sequence[_Fact]) -> list[list[Any]]:
    rows = [
        (
            *fact.identity,
            _reason(fact),
            None if fact.row is None else fact.row["id"],
            fact.report.provider_id,
            fact.report.detail,
            fact.occurred_at,
        )
        for fact in facts
    ]
    return [list(column) for column in zip(*rows, strict=True)]
