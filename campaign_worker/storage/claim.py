"""The claim of a batch: make the rows, lock them, read the guards, write token and lease.

One transaction; the guards are read by a statement after the lock, so no claim begins after a pause
or an unsubscribe has committed. Repeating a claim whose reply was lost finds its own token.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from asyncpg.pool import PoolConnectionProxy

from campaign_worker.delivery.claims import (
    Busy,
    CampaignContent,
    Claim,
    Claimed,
    Content,
    Final,
    InlineContent,
    MessageState,
    Missing,
    NotYet,
)
from campaign_worker.delivery.guard import Go, GuardFacts, Skip, Wait, decide
from campaign_worker.delivery.model import Template
from campaign_worker.delivery.requests import CampaignRequest, InlineRequest, JobRef, Request
from campaign_worker.storage.database import Database
from campaign_worker.storage.inline import inline_from_json, inline_to_json

ROW_HELD_SECONDS = 1.0
"""A row that another transaction holds is looked at again after this."""

_FINAL = {"sent", "failed", "skipped", "in_doubt"}
_TEMPLATES_KEPT = 1000


@dataclass(frozen=True, slots=True)
class ClaimItem:
    """One job's wish: which mail, under which token, from which job."""

    request: Request
    token: str
    job: JobRef


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to be written for one locked row."""

    item: ClaimItem
    row: Any
    decision: Go | Skip | Wait
    suppressed: frozenset[str]


class Claimer:
    """Executes batches of claims. `normalize` gives the form in which suppressions are kept."""

    def __init__(
        self, database: Database, *, lease_seconds: float, normalize: Callable[[str], str]
    ) -> None:
        self._database = database
        self._lease_seconds = lease_seconds
        self._normalize = normalize
        self._templates: dict[int, Template] = {}

    async def execute(self, items: Sequence[ClaimItem]) -> list[Claim]:
        """Claim each item; the second of two for the same row is busy."""
        first: dict[Request | str, int] = {}
        for index, item in enumerate(items):
            first.setdefault(_identity(item.request), index)
        chosen = sorted(first.values())
        confirmed_at = time.monotonic()
        async with self._database.transaction() as connection:
            answers = await self._claim(
                connection, [items[index] for index in chosen], confirmed_at
            )
        by_index = dict(zip(chosen, answers, strict=True))
        return [by_index.get(index, Busy(ROW_HELD_SECONDS)) for index in range(len(items))]

    async def _claim(
        self, connection: PoolConnectionProxy, items: Sequence[ClaimItem], confirmed_at: float
    ) -> list[Claim]:
        sql = self._database.sql
        await self._ensure_rows(connection, items)
        keys = _keys(items)
        locked = {
            row["id"] for row in await connection.fetch(sql["lock_messages"], *_without_order(keys))
        }
        rows = await connection.fetch(sql["read_for_claim"], *keys)
        answers: dict[int, Claim] = {}
        open_rows: dict[int, tuple[ClaimItem, Any]] = {}
        for row in rows:
            item = items[row["ord"]]
            early = _answer_without_claim(row, item, held=row["id"] not in locked)
            if early is not None:
                answers[row["ord"]] = early
            else:
                open_rows[row["ord"]] = (item, row)
        plans = await self._decide(connection, open_rows)
        answers.update(await self._write(connection, plans, confirmed_at))
        return [answers[order] for order in range(len(items))]

    async def _ensure_rows(
        self, connection: PoolConnectionProxy, items: Sequence[ClaimItem]
    ) -> None:
        campaign = [(i, i.request) for i in items if isinstance(i.request, CampaignRequest)]
        inline = [(i, i.request) for i in items if isinstance(i.request, InlineRequest)]
        if campaign:
            await connection.execute(
                self._database.sql["ensure_campaign_messages"],
                [request.campaign_id for _, request in campaign],
                [request.recipient_id for _, request in campaign],
                [request.step for _, request in campaign],
                [item.job.queue for item, _ in campaign],
                [item.job.job_id for item, _ in campaign],
            )
        if inline:
            await connection.execute(
                self._database.sql["ensure_inline_messages"],
                [request.campaign_id for _, request in inline],
                [request.key for _, request in inline],
                [inline_to_json(request.mail) for _, request in inline],
                [item.job.queue for item, _ in inline],
                [item.job.job_id for item, _ in inline],
            )

    async def _decide(
        self, connection: PoolConnectionProxy, open_rows: dict[int, tuple[ClaimItem, Any]]
    ) -> dict[int, _Plan]:
        addresses = {order: self._addresses(row) for order, (_, row) in open_rows.items()}
        wanted = sorted({one for several in addresses.values() for one in several})
        found = (
            await connection.fetch(self._database.sql["read_suppressions"], wanted)
            if wanted
            else []
        )
        reasons: dict[str, str] = {row["address"]: row["reason"] for row in found}
        plans = {}
        for order, (item, row) in open_rows.items():
            hit = [one for one in addresses[order] if one in reasons]
            # A mail to several goes to those who may have it; it is skipped when nobody is left.
            everybody = bool(hit) and len(hit) == len(addresses[order])
            facts = _facts(row, reasons[hit[0]] if everybody else None)
            plans[order] = _Plan(item, row, decide(facts), frozenset(hit))
        return plans

    def _addresses(self, row: Any) -> list[str]:
        if row["inline"] is None:
            return [self._normalize(row["email"])]
        mail = inline_from_json(row["inline"])
        return list(dict.fromkeys(self._normalize(one) for one in (*mail.to, *mail.cc, *mail.bcc)))

    async def _write(
        self, connection: PoolConnectionProxy, plans: dict[int, _Plan], confirmed_at: float
    ) -> dict[int, Claim]:
        go = {order: plan for order, plan in plans.items() if isinstance(plan.decision, Go)}
        skips = [plan for plan in plans.values() if isinstance(plan.decision, Skip)]
        waits = [
            plan
            for plan in plans.values()
            if isinstance(plan.decision, Wait) and plan.row["state"] == "sending"
        ]
        await self._load_templates(connection, [plan.row["template_id"] for plan in go.values()])
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
        if go:
            await connection.fetch(
                self._database.sql["write_claims"],
                [plan.row["id"] for plan in go.values()],
                [plan.item.token for plan in go.values()],
                [plan.item.job.queue for plan in go.values()],
                [plan.item.job.job_id for plan in go.values()],
                [plan.row["template_id"] for plan in go.values()],
                self._lease_seconds,
            )
        return {order: self._answer(plan, confirmed_at) for order, plan in plans.items()}

    def _answer(self, plan: _Plan, confirmed_at: float) -> Claim:
        match plan.decision:
            case Skip(reason):
                return Final(MessageState.SKIPPED, reason, None)
            case Wait(reason, seconds):
                return NotYet(reason, seconds)
            case Go():
                return Claimed(
                    id=plan.row["id"],
                    token=plan.item.token,
                    attempts=plan.row["attempts"],
                    message_key=_message_key(plan.row),
                    created_at_epoch=plan.row["created_at_epoch"],
                    content=self._content(plan),
                    confirmed_at=confirmed_at,
                )

    def _content(self, plan: _Plan) -> Content:
        row = plan.row
        if row["inline"] is not None:
            return InlineContent(
                mail=inline_from_json(row["inline"]),
                campaign_id=row["campaign_id"],
                mail_from=row["mail_from"],
                suppressed=plan.suppressed,
            )
        return CampaignContent(
            template=self._templates[row["template_id"]],
            recipient_email=row["email"],
            recipient_name=row["recipient_name"],
            recipient_data=json.loads(row["data"]),
            campaign_id=row["campaign_id"],
            campaign_name=row["campaign_name"],
            recipient_id=row["recipient_id"],
            step=row["step"],
            mail_from=row["mail_from"],
            reply_to=row["reply_to"],
            headers=_headers(row["headers"]),
            previous_message_id=row["previous_message_id"],
        )

    async def _load_templates(
        self, connection: PoolConnectionProxy, ids: Sequence[int | None]
    ) -> None:
        unknown = sorted({one for one in ids if one is not None and one not in self._templates})
        if not unknown:
            return
        if len(self._templates) + len(unknown) > _TEMPLATES_KEPT:
            self._templates.clear()
            unknown = sorted({one for one in ids if one is not None})
        for row in await connection.fetch(self._database.sql["load_templates"], unknown):
            self._templates[row["id"]] = Template(
                row["id"], row["subject"], row["html"], row["text"]
            )


def _identity(request: Request) -> Request | str:
    # An inline request holds unhashable parts, and its key alone says which mail it is.
    return request.key if isinstance(request, InlineRequest) else request


def _keys(items: Sequence[ClaimItem]) -> tuple[list[Any], ...]:
    requests = [item.request for item in items]
    campaign = [one if isinstance(one, CampaignRequest) else None for one in requests]
    return (
        list(range(len(items))),
        [one.campaign_id for one in requests],
        [one and one.recipient_id for one in campaign],
        [one and one.step for one in campaign],
        [one.key if isinstance(one, InlineRequest) else None for one in requests],
    )


def _without_order(keys: tuple[list[Any], ...]) -> tuple[list[Any], ...]:
    return keys[1:]


def _answer_without_claim(row: Any, item: ClaimItem, *, held: bool) -> Claim | None:
    """Answer for a row that cannot be claimed, or None for one that may be."""
    if row["id"] is None:
        return _missing(row, item.request)
    if row["state"] in _FINAL:
        return Final(MessageState(row["state"]), row["reason"], row["message_id"])
    if held:
        return Busy(ROW_HELD_SECONDS)
    if row["state"] == "sending":
        # Our own token: the reply to an earlier try of this very claim was lost.
        if row["token"] == item.token:
            return None
        # A lease that is over is the reconciler's to resolve; until then nobody spins on it.
        return Busy(max(row["lease_in"], ROW_HELD_SECONDS))
    if row["due_in"] > 0:
        return NotYet("not_due", row["due_in"])
    return None


def _missing(row: Any, request: Request) -> Missing:
    if request.campaign_id is not None and not row["campaign_known"]:
        return Missing("campaignId", f"there is no campaign {request.campaign_id}")
    if isinstance(request, InlineRequest):
        return Missing("idempotencyKey", "the row could not be made")
    if not row["recipient_known"]:
        return Missing(
            "recipientId",
            f"campaign {request.campaign_id} has no recipient {request.recipient_id}",
        )
    return Missing("step", f"campaign {request.campaign_id} has no follow-up {request.step}")


def _facts(row: Any, suppressed: str | None) -> GuardFacts:
    if row["inline"] is not None:
        return GuardFacts(campaign_status=row["campaign_status"], suppressed=suppressed)
    return GuardFacts(
        campaign_status=row["campaign_status"],
        unsubscribed=row["unsubscribed"],
        replied=row["replied"],
        suppressed=suppressed,
        step=row["step"],
        step_known=row["template_id"] is not None,
        condition=row["condition"] or "always",
        stop_on_reply=row["stop_on_reply"] is not False,
        previous_state=row["previous_state"],
        previous_opened=bool(row["previous_opened"]),
        previous_clicked=bool(row["previous_clicked"]),
    )


def _headers(text: str) -> dict[str, str]:
    """Read a campaign's headers; the column is JSON, and a number in it is no fault."""
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in json.loads(text).items()
        if value is not None
    }


def _message_key(row: Any) -> str:
    if row["inline"] is not None:
        return str(row["idempotency_key"])
    return f"{row['campaign_id']}.{row['recipient_id']}.{row['step']}"
