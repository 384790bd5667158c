"""The claim of a batch: make the rows, lock them, read the guards, write token and lease.

One transaction; the guards are read by a statement after the lock, so no claim begins after a pause
or an unsubscribe has committed. Repeating a claim whose reply was lost finds its own token.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from asyncpg.pool import PoolConnectionProxy

from campaign_worker.delivery.claims import (
    Busy,
    Claim,
    Claimed,
    Content,
    Final,
    InlineContent,
    MessageState,
    NotYet,
    Unreadable,
)
from campaign_worker.delivery.guard import AppFacts, Go, Skip, Wait, decide
from campaign_worker.delivery.model import Template
from campaign_worker.delivery.requests import InlineRequest, Request
from campaign_worker.storage.claim_items import (
    ClaimItem,
    ensure_rows,
    recipients_at_rest,
    reopen_retried,
)
from campaign_worker.storage.claim_rows import (
    ROW_HELD_SECONDS,
    addresses_of,
    answer_without_claim,
    guard_facts,
    keys_of,
    message_key,
    replay_of,
)
from campaign_worker.storage.contract_tables import AppTables
from campaign_worker.storage.database import Database
from campaign_worker.storage.inline import inline_from_json
from campaign_worker.storage.templates import Loaded, TemplateRows


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to be written for one locked row."""

    item: ClaimItem
    row: Any
    decision: Go | Skip | Wait
    suppressed: frozenset[str]


class Claimer:
    """Executes batches of claims.

    `normalize` gives the form in which suppressions are kept, `static_links` the URLs of a template
    that get rows; None where nothing is tracked. `app`: an existing app's tables, by a contract.
    """

    def __init__(
        self,
        database: Database,
        *,
        lease_seconds: float,
        normalize: Callable[[str], str],
        static_links: Callable[[Template], Sequence[str]] | None = None,
        app: AppTables | None = None,
    ) -> None:
        self._database = database
        self._app = app
        self._lease_seconds = lease_seconds
        self._normalize = normalize
        self._templates = TemplateRows(database.sql, static_links)

    async def execute(self, items: Sequence[ClaimItem]) -> list[Claim]:
        """Claim each item; the second of two for the same row is busy."""
        first: dict[Request | str, int] = {}
        for index, item in enumerate(items):
            first.setdefault(_identity(item.request), index)
        chosen = sorted(first.values())
        confirmed_at = time.monotonic()
        async with self._database.transaction() as connection:
            answers, loaded = await self._claim(
                connection, [items[index] for index in chosen], confirmed_at
            )
        self._templates.keep(loaded)
        by_index = dict(zip(chosen, answers, strict=True))
        return [by_index.get(index, Busy(ROW_HELD_SECONDS)) for index in range(len(items))]

    async def rehearse(
        self, connection: PoolConnectionProxy, items: Sequence[ClaimItem]
    ) -> list[Claim]:
        """Claim unlike items in a transaction that the caller rolls back: what would happen."""
        return (await self._claim(connection, items, time.monotonic()))[0]

    async def _claim(
        self, connection: PoolConnectionProxy, items: Sequence[ClaimItem], confirmed_at: float
    ) -> tuple[list[Claim], Loaded]:
        sql = self._database.sql
        await ensure_rows(connection, sql, items)
        keys = keys_of([item.request for item in items])
        locked = {row["id"] for row in await connection.fetch(sql["lock_messages"], *keys[1:])}
        await reopen_retried(connection, sql, items, locked)
        at_rest = await recipients_at_rest(connection, sql, items)
        told = await self._told_by_the_app(connection, items)
        rows = await connection.fetch(sql["read_for_claim"], *keys)
        answers: dict[int, Claim] = {}
        open_rows: dict[int, tuple[ClaimItem, Any]] = {}
        for row in rows:
            item = items[row["ord"]]
            held = row["id"] not in locked or row["recipient_id"] not in at_rest
            early = answer_without_claim(row, item.request, item.token, held=held, alone=item.alone)
            if early is not None:
                answers[row["ord"]] = early
            else:
                open_rows[row["ord"]] = (item, row)
        plans = await self._decide(connection, open_rows, told)
        written, loaded = await self._write(connection, plans, confirmed_at)
        answers.update(written)
        return [answers[order] for order in range(len(items))], loaded

    async def _told_by_the_app(
        self, connection: PoolConnectionProxy, items: Sequence[ClaimItem]
    ) -> Mapping[Request | str, AppFacts]:
        """Read an app's own tables after the lock, as the guards are read."""
        if self._app is None:
            return {}
        return await self._app.refresh(connection, [item.request for item in items])

    async def _decide(
        self,
        connection: PoolConnectionProxy,
        open_rows: dict[int, tuple[ClaimItem, Any]],
        told: Mapping[Request | str, AppFacts],
    ) -> dict[int, _Plan]:
        addresses = {
            order: addresses_of(row, self._normalize) for order, (_, row) in open_rows.items()
        }
        wanted = sorted({one for several in addresses.values() for one in several})
        found = (
            await connection.fetch(self._database.sql["read_suppressions"], wanted)
            if wanted
            else []
        )
        reasons: dict[str, str] = {row["address"]: row["reason"] for row in found}
        if self._app is not None:
            reasons = await self._app.suppressed(connection, wanted) | reasons
        plans = {}
        for order, (item, row) in open_rows.items():
            hit = [one for one in addresses[order] if one in reasons]
            # A mail to several goes to those who may have it; it is skipped when nobody is left.
            everybody = bool(hit) and len(hit) == len(addresses[order])
            facts = guard_facts(row, reasons[hit[0]] if everybody else None)
            app_facts = told.get(_identity(item.request))
            facts = facts if app_facts is None else app_facts.told(facts)
            plans[order] = _Plan(item, row, decide(facts), frozenset(hit))
        return plans

    async def _write(
        self, connection: PoolConnectionProxy, plans: dict[int, _Plan], confirmed_at: float
    ) -> tuple[dict[int, Claim], Loaded]:
        go = {order: plan for order, plan in plans.items() if isinstance(plan.decision, Go)}
        refused = [plan for plan in plans.values() if isinstance(plan.decision, Skip)]
        skips = [plan for plan in refused if replay_of(plan.row) is None]
        doubts = [plan for plan in refused if replay_of(plan.row) is not None]
        waits = [
            plan
            for plan in plans.values()
            if isinstance(plan.decision, Wait) and plan.row["state"] == "sending"
        ]
        loaded = await self._templates.load(connection, [plan.row for plan in go.values()])
        if skips:
            await connection.execute(
                self._database.sql["write_skips"],
                [plan.row["id"] for plan in skips],
                [plan.decision.reason for plan in skips if isinstance(plan.decision, Skip)],
            )
        if waits:
            await connection.execute(
                self._database.sql["write_waits"],
                [plan.row["id"] for plan in waits],
                [plan.item.token for plan in waits],
            )
        if go or doubts:
            owned = [*go.values(), *doubts]
            await connection.fetch(
                self._database.sql["write_claims"],
                [plan.row["id"] for plan in owned],
                [plan.item.token for plan in owned],
                [plan.item.job.queue for plan in owned],
                [plan.item.job.job_id for plan in owned],
                [plan.row["template_id"] for plan in owned],
                self._lease_seconds,
                [plan.item.job.attempts_made for plan in owned],
                [plan.item.job.timestamp_ms for plan in owned],
            )
        if doubts:
            await connection.execute(
                self._database.sql["write_doubts"],
                [plan.row["id"] for plan in doubts],
                [plan.item.token for plan in doubts],
                [plan.decision.reason for plan in doubts if isinstance(plan.decision, Skip)],
            )
        if self._app is not None:
            await self._app.tell(connection, [plan.row["id"] for plan in refused])
        answers = {order: _answer(plan, confirmed_at, loaded) for order, plan in plans.items()}
        return answers, loaded


def _identity(request: Request) -> Request | str:
    # An inline request holds unhashable parts, and its key alone says which mail it is.
    return request.key if isinstance(request, InlineRequest) else request


def _answer(plan: _Plan, confirmed_at: float, loaded: Loaded) -> Claim:
    match plan.decision:
        case Skip(reason) if replay_of(plan.row) is not None:
            return Final(MessageState.IN_DOUBT, reason, plan.row["message_id"])
        case Skip(reason):
            return Final(MessageState.SKIPPED, reason, None)
        case Wait(reason, seconds):
            return NotYet(reason, seconds)
        case Go():
            return Claimed(
                id=plan.row["id"],
                token=plan.item.token,
                attempts=plan.row["attempts"],
                message_key=message_key(plan.row),
                created_at_epoch=plan.row["created_at_epoch"],
                content=_content(plan, loaded),
                confirmed_at=confirmed_at,
                replay=replay_of(plan.row),
            )


def _content(plan: _Plan, loaded: Loaded) -> Content:
    row = plan.row
    if row["inline"] is None:
        try:
            return loaded.content(row)
        except (ValueError, RecursionError) as error:
            # One row's fault: the others of the batch have their mails to send.
            return Unreadable(f"{type(error).__name__} in the recipient's data or the headers")
    return InlineContent(
        mail=inline_from_json(row["inline"]),
        campaign_id=row["campaign_id"],
        mail_from=row["mail_from"],
        suppressed=plan.suppressed,
    )
