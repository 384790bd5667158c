"""What a row that was read for a claim says: pure functions from columns to our own values."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

from campaign_worker.delivery.claims import (
    Busy,
    CampaignContent,
    Claim,
    Final,
    GoesAlone,
    MessageState,
    Missing,
    NotYet,
    Tracking,
)
from campaign_worker.delivery.guard import GuardFacts
from campaign_worker.delivery.model import Template
from campaign_worker.delivery.replay import Replay
from campaign_worker.delivery.requests import CampaignRequest, InlineRequest, Request
from campaign_worker.storage.inline import inline_from_json

ROW_HELD_SECONDS = 1.0
"""A row that another transaction holds is looked at again after this."""

DEATHS_BESIDE_OTHERS = 2
"""Owners that a row may lose before it goes alone: which of their mails killed them, nobody saw."""

_FINAL = {"sent", "failed", "skipped", "in_doubt"}


def keys_of(requests: Sequence[Request]) -> tuple[list[Any], ...]:
    """Give the columns that rows are found by: order, campaign, recipient, step, key."""
    campaign = [one if isinstance(one, CampaignRequest) else None for one in requests]
    return (
        list(range(len(requests))),
        [one.campaign_id for one in requests],
        [one and one.recipient_id for one in campaign],
        [one and one.step for one in campaign],
        [one.key if isinstance(one, InlineRequest) else None for one in requests],
    )


def addresses_of(row: Any, normalize: Callable[[str], str]) -> list[str]:
    """Give whom a row's mail goes to, in the form in which suppressions are kept."""
    if row["inline"] is None:
        return [normalize(row["email"])]
    mail = inline_from_json(row["inline"])
    return list(dict.fromkeys(normalize(one) for one in (*mail.to, *mail.cc, *mail.bcc)))


def replay_of(row: Any) -> Replay | None:
    """Give the request of an earlier claim that may have been executed."""
    if row["request"] is None:
        return None
    return Replay(
        transport=row["transport"],
        request=row["request"],
        message_id=row["message_id"],
        age_seconds=row["first_marked_ago"],
        open=row["replay_open"],
    )


def answer_without_claim(
    row: Any, request: Request, token: str, *, held: bool, alone: bool
) -> Claim | None:
    """Answer for a row that cannot be claimed, or None for one that may be."""
    if row["id"] is None:
        return _missing(row, request)
    if row["state"] in _FINAL:
        return Final(MessageState(row["state"]), row["reason"], row["message_id"])
    if held:
        return Busy(ROW_HELD_SECONDS)
    if row["state"] == "sending":
        # Our own token: the reply to an earlier try of this very claim was lost.
        if row["token"] == token:
            return None
        # A lease that is over is the reconciler's to resolve; until then nobody spins on it.
        return Busy(max(row["lease_in"], ROW_HELD_SECONDS))
    if row["due_in"] > 0:
        return NotYet("not_due", row["due_in"])
    if row["deaths"] >= DEATHS_BESIDE_OTHERS and not alone:
        return GoesAlone()
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


def guard_facts(row: Any, suppressed: str | None) -> GuardFacts:
    """Give what the guard decides by; `suppressed` is the reason if nobody is left to mail."""
    waited_seconds, spread = max(-row["due_in"], 0.0), random.random()  # noqa: S311 - jitter
    if row["inline"] is not None:
        return GuardFacts(
            campaign_status=row["campaign_status"],
            suppressed=suppressed,
            waited_seconds=waited_seconds,
            spread=spread,
        )
    return GuardFacts(
        campaign_status=row["campaign_status"],
        unsubscribed=row["unsubscribed"],
        replied=row["replied"],
        suppressed=suppressed,
        step=row["step"],
        step_known=row["step_known"],
        step_before=row["step_before"],
        condition=row["condition"] or "always",
        stop_on_reply=row["stop_on_reply"] is not False,
        previous_state=row["previous_state"],
        previous_opened=bool(row["previous_opened"]),
        previous_clicked=bool(row["previous_clicked"]),
        waited_seconds=waited_seconds,
        spread=spread,
    )


def headers_of(text: str) -> dict[str, str | None]:
    """Read a campaign's headers; the column is JSON, and a number in it is no fault."""
    return {
        name: value if value is None or isinstance(value, str) else json.dumps(value)
        for name, value in json.loads(text).items()
    }


def campaign_content(
    row: Any, template: Template, link_ids: tuple[int | None, ...]
) -> CampaignContent:
    """Give what a campaign's mail is made of."""
    return CampaignContent(
        template=template,
        recipient_email=row["email"],
        recipient_name=row["recipient_name"],
        recipient_data=json.loads(row["data"]),
        campaign_id=row["campaign_id"],
        campaign_name=row["campaign_name"],
        recipient_id=row["recipient_id"],
        step=row["step"],
        mail_from=row["mail_from"],
        reply_to=row["reply_to"],
        headers=headers_of(row["headers"]),
        previous_message_id=row["previous_message_id"],
        tracking=Tracking(
            opens=row["track_opens"],
            clicks=row["track_clicks"],
            text=row["track_text"],
            link_ids=link_ids,
        ),
    )


def message_key(row: Any) -> str:
    """Give what the Message-ID is derived from."""
    if row["inline"] is not None:
        return str(row["idempotency_key"])
    return f"{row['campaign_id']}.{row['recipient_id']}.{row['step']}"
