"""Settles of a batch: states, attempts, usage, suppressions and next steps, in one transaction.

Idempotent: a settle whose reply was lost finds the row as it left it and is content.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, assert_never

from asyncpg.pool import PoolConnectionProxy

from campaign_worker.delivery.settlements import (
    FailReason,
    MarkFailed,
    MarkInDoubt,
    MarkReleased,
    MarkRetry,
    MarkSent,
    NextStep,
    SettleAnswer,
    Settled,
    Settlement,
    Superseded,
    fingerprint,
)
from campaign_worker.storage.claim_rows import addresses_of
from campaign_worker.storage.contract_tables import AppTables
from campaign_worker.storage.database import Database

_DETAIL_LIMIT = 500
_WITHDRAWN_KEPT = 1000
"""Rows whose suppressions were taken back: those of a process' last floods of bounces."""

_BOUNCED_LATER = "the answer was written down without its text"


class Settler:
    """Executes batches of settlements. `normalize` gives the form that suppressions are kept in.

    `app`: an existing app's tables, which are told by a contract.
    """

    def __init__(
        self,
        database: Database,
        *,
        normalize: Callable[[str], str],
        app: AppTables | None = None,
    ) -> None:
        self._database = database
        self._app = app
        self._normalize = normalize
        self._withdrawn: deque[int] = deque(maxlen=_WITHDRAWN_KEPT)

    async def execute(self, items: Sequence[Settlement]) -> list[SettleAnswer]:
        """Write each ending; answers say whether the row took it."""
        async with self._database.transaction() as connection:
            columns = [_columns(item) for item in items]
            rows = await connection.fetch(
                self._database.sql["settle_messages"],
                *([column[index] for column in columns] for index in range(9)),
            )
            # By token too: a superseded owner may settle in the same batch as the new one.
            written = {(row["id"], row["token"]) for row in rows}
            rest = [item for item in items if (item.id, item.token) not in written]
            standing = await self._standing(connection, rest)
            taken = written | {(item.id, item.token) for item in rest if _stands(item, standing)}
            steps = await self._after(
                connection, [item for item in items if (item.id, item.token) in taken]
            )
            if self._app is not None:
                await self._app.tell(connection, sorted({item.id for item in items}))
        return [
            Settled(steps.get(item.id))
            if (item.id, item.token) in taken
            else Superseded(standing.get(item.id, ("absent", None))[0])
            for item in items
        ]

    async def _standing(
        self, connection: PoolConnectionProxy, items: Sequence[Settlement]
    ) -> dict[int, tuple[str, str | None]]:
        if not items:
            return {}
        ids = sorted({item.id for item in items})
        rows = await connection.fetch(self._database.sql["read_settled"], ids)
        return {row["id"]: (row["state"], row["token"]) for row in rows}

    async def _after(
        self, connection: PoolConnectionProxy, items: Sequence[Settlement]
    ) -> dict[int, NextStep]:
        """Write what follows from an ending: suppressions, usage, next steps, a resend."""
        sql = self._database.sql
        withdrawn = sorted({row for item in items for row in item.withdraw})
        self._withdrawn.extend(withdrawn)
        # What is taken back may be settled in this very batch, or later.
        believed = [item for item in items if item.id not in self._withdrawn]
        suppressed = [entry for item in believed for entry in self._suppressed(item)]
        suppressed += await self._suppressed_later(connection, believed)
        if suppressed:
            await connection.execute(
                sql["suppress"], *([entry[index] for entry in suppressed] for index in range(3))
            )
        if withdrawn:
            await connection.execute(sql["withdraw_suppressions"], withdrawn)
        resend = [
            item.id for item in items if isinstance(item.ending, MarkInDoubt) and item.ending.resend
        ]
        if resend:
            await connection.execute(sql["resend_in_doubt"], resend)
        sent = [item.id for item in items if isinstance(item.ending, MarkSent)]
        if not sent:
            return {}
        await connection.execute(sql["record_usage"], sent)
        await connection.execute(sql["schedule_next_steps"], sent)
        rows = await connection.fetch(sql["read_next_steps"], sent)
        return {
            row["id"]: NextStep(row["campaign_id"], row["recipient_id"], row["step"], row["due_in"])
            for row in rows
        }

    async def _suppressed_later(
        self, connection: PoolConnectionProxy, items: Sequence[Settlement]
    ) -> list[tuple[str, int, str]]:
        """Find the addresses of endings that were written down without them."""
        bounced = {item.id: item for item in items if item.bounced}
        if not bounced:
            return []
        statement = self._database.sql["addresses_of_messages"]
        rows = await connection.fetch(statement, sorted(bounced))
        return [
            (address, row["id"], _BOUNCED_LATER)
            for row in rows
            for address in addresses_of(row, self._normalize)
            if fingerprint(bounced[row["id"]].token, address) in bounced[row["id"]].bounced
        ]

    def _suppressed(self, item: Settlement) -> list[tuple[str, int, str]]:
        match item.ending:
            case MarkFailed(FailReason.HARD_BOUNCE, detail, _, suppress):
                bounced = [(address, detail) for address in suppress]
            case MarkSent(hard_bounced=refused):
                bounced = [(one.recipient, one.text) for one in refused]
            case _:
                bounced = []
        return [(self._normalize(address), item.id, _clean(text)) for address, text in bounced]


def _columns(item: Settlement) -> tuple[Any, ...]:
    """id, token, state, reason, detail, attempts spent, seconds until due, Message-ID, unknown."""
    unknown = False
    match item.ending:
        case MarkSent(message_id, reply):
            rest: tuple[Any, ...] = ("sent", None, _clean(reply), 0, 0.0, message_id)
        case MarkFailed(reason, detail, attempt_spent):
            rest = ("failed", reason.value, _clean(detail), int(attempt_spent), 0.0, None)
        case MarkRetry(detail, seconds):
            rest = ("scheduled", None, _clean(detail), 1, seconds, None)
        case MarkReleased(detail, seconds, unknown):
            rest = ("scheduled", None, _clean(detail), 0, seconds, None)
        case MarkInDoubt(message_id, detail):
            rest = ("in_doubt", "no_answer_to_final_dot", _clean(detail), 0, 0.0, message_id)
        case _:
            assert_never(item.ending)
    return (item.id, item.token, *rest, unknown)


def _clean(text: str) -> str:
    """Make foreign text fit for Postgres: no NUL, no lone surrogate, cut."""
    safe = text.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")
    return safe[:_DETAIL_LIMIT]


def _stands(item: Settlement, standing: dict[int, tuple[str, str | None]]) -> bool:
    """Whether the row already says so with our token: an earlier try whose reply was lost."""
    return standing.get(item.id) == (_columns(item)[2], item.token)
