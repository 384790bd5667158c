"""Tells an app's tables what became of its mails, in the transaction that wrote it into ours.

What cannot be told stays noted, and is told later: our own rows never wait for a contract.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import asyncpg
import structlog
from asyncpg.pool import PoolConnectionProxy

from campaign_worker.contract.keys import value_of
from campaign_worker.contract.model import Contract, MailState
from campaign_worker.contract.statements import COUNTS
from campaign_worker.errors import ContractBroken
from campaign_worker.storage.contract_sql import ContractSql, refuses_a_row, said

log = structlog.get_logger(__name__)

_PATIENCE = ("1s", "2s")
"""How long our rows wait for one of the app's that its transaction holds (lock_timeout), and for a
statement of the contract (statement_timeout)."""


class ContractWrite:
    """Writes by one contract. `on_broken` hears of a statement that does not fit any more."""

    def __init__(
        self,
        contract: Contract,
        app: ContractSql,
        sql: Mapping[str, str],
        on_broken: Callable[[ContractBroken], None],
    ) -> None:
        self._contract = contract
        self._app = app
        self._sql = sql
        self._on_broken = on_broken

    async def tell(self, connection: PoolConnectionProxy, message_ids: Sequence[int]) -> None:
        """Tell what is untold of these messages, if the app's tables take it.

        Raises nothing that is the contract's own fault: it stays noted, and the rest commits.
        """
        attempt = connection.transaction()
        await attempt.start()
        try:
            await self.tell_all(connection, message_ids)
        except ContractBroken as error:
            await attempt.rollback()
            self._on_broken(error)
        except asyncpg.LockNotAvailableError:
            await attempt.rollback()
            log.warning("the app holds its rows; endings are told later")
        except asyncpg.PostgresError as error:
            if not refuses_a_row(error):
                raise
            await attempt.rollback()
            log.error("the app's tables refuse an ending; it is told later", problem=said(error))
        else:
            await attempt.commit()

    async def tell_all(self, connection: PoolConnectionProxy, message_ids: Sequence[int]) -> None:
        """Tell what is untold of these messages. Raises what the app's tables say."""
        rows = await connection.fetch(
            self._sql["contract_take_unwritten"], sorted(message_ids), *_PATIENCE
        )
        campaigns = sorted({row["campaign_id"] for row in rows if row["campaign_id"] is not None})
        # Our counts first: every writer of an app's campaign holds them before its rows.
        counts = await self._lock_counts(connection, campaigns)
        await self._tell_recipients(connection, rows)
        await self._tell_mails(connection, rows)
        await self._tell_counts(connection, counts)
        if rows or counts:
            await self._app.speak_now(connection)

    async def tell_campaigns(
        self, connection: PoolConnectionProxy, campaigns: Sequence[int]
    ) -> None:
        """Tell the counts of campaigns, by our ids. Raises what the app's tables say."""
        # Settles wait for the counts that are held here.
        await connection.fetch(self._sql["contract_patience"], *_PATIENCE)
        await self._tell_counts(connection, await self._lock_counts(connection, campaigns))
        await self._app.speak_now(connection)

    async def tell_suppressions(
        self, connection: PoolConnectionProxy, addresses: Sequence[str]
    ) -> None:
        """Tell which of these are suppressed here. Raises what the app's tables say."""
        await connection.fetch(self._sql["contract_patience"], *_PATIENCE)
        rows = await connection.fetch(self._sql["contract_take_suppressions"], list(addresses))
        taken = [row["address"] for row in rows]
        rows = await connection.fetch(self._sql["contract_read_suppressions"], taken)
        if rows:
            values = {
                "emails": [row["address"] for row in rows],
                "reasons": [row["reason"] for row in rows],
                "created_ats": [row["created_at"] for row in rows],
            }
            await self._app.fetch(connection, "write.suppressions", values)
            await self._app.speak_now(connection)

    @property
    def tells_suppressions(self) -> bool:
        """Whether the contract says how."""
        return "write.suppressions" in self._app

    async def _lock_counts(
        self, connection: PoolConnectionProxy, campaigns: Sequence[int]
    ) -> Sequence[Any]:
        if not campaigns or "write.campaigns" not in self._app:
            return []
        return await connection.fetch(self._sql["contract_lock_counts"], list(campaigns))

    async def _tell_recipients(self, connection: PoolConnectionProxy, rows: Sequence[Any]) -> None:
        told = [
            (row, word)
            for row in rows
            if row["recipient_key"] is not None and (word := self._word(row)) is not None
        ]
        if not told or "write.recipients" not in self._app:
            return
        kinds = self._contract.ids
        values = {
            "recipient_ids": [value_of(row["recipient_key"], kinds.recipient) for row, _ in told],
            "campaign_ids": [value_of(row["campaign_key"], kinds.campaign) for row, _ in told],
            "steps": [row["step"] for row, _ in told],
        }
        await self._app.fetch(connection, "write.recipients", values | _endings(told))

    async def _tell_mails(self, connection: PoolConnectionProxy, rows: Sequence[Any]) -> None:
        told = [
            (row, word)
            for row in rows
            if row["idempotency_key"] is not None and (word := self._word(row)) is not None
        ]
        if not told or "write.mails" not in self._app:
            return
        values = {"keys": [row["idempotency_key"] for row, _ in told]}
        await self._app.fetch(connection, "write.mails", values | _endings(told))

    async def _tell_counts(self, connection: PoolConnectionProxy, counts: Sequence[Any]) -> None:
        changed = [row for row in counts if any(row[one] != row[f"{one}_before"] for one in COUNTS)]
        if not changed:
            return
        kind = self._contract.ids.campaign
        values: dict[str, list[Any]] = defaultdict(list)
        for row in changed:
            values["ids"].append(value_of(row["key"], kind))
            for one in COUNTS:
                values[one].append(row[one])
                values[f"{one}_added"].append(row[one] - row[f"{one}_before"])
        await self._app.fetch(connection, "write.campaigns", values)
        await connection.execute(
            self._sql["contract_counts_written"],
            [row["key"] for row in changed],
            *(values[one] for one in COUNTS),
        )

    def _word(self, row: Any) -> str | None:
        words = self._contract.write.states
        bounced = row["bounced"] or row["reason"] == "hard_bounce"
        if bounced and MailState.BOUNCED in words:
            return words[MailState.BOUNCED]
        return words.get(MailState(row["state"]))


def _endings(told: Sequence[tuple[Any, str]]) -> dict[str, list[Any]]:
    return {
        "states": [word for _, word in told],
        "reasons": [row["reason"] for row, _ in told],
        "message_ids": [row["message_id"] for row, _ in told],
        "sent_ats": [row["sent_at"] for row, _ in told],
        "ended_ats": [row["settled_at"] for row, _ in told],
        "attempts": [row["attempts"] for row, _ in told],
    }
