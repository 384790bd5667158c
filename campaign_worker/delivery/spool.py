"""Outcomes that Postgres could not take in time: written down elsewhere, and given to it later.

What is written down has neither an address nor a word of a server in it: the row, the token that
owns it, our own words, and fingerprints of addresses that the row knows. Draining may happen twice,
and beside an owner who still tries.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, assert_never

import structlog

from campaign_worker.delivery.ports import Spool
from campaign_worker.delivery.settlements import (
    Ending,
    FailReason,
    MarkFailed,
    MarkInDoubt,
    MarkReleased,
    MarkRetry,
    MarkSent,
    SettleAnswer,
    Settled,
    Settlement,
    SpoolEntry,
    fingerprint,
)
from campaign_worker.errors import RowRefused

log = structlog.get_logger(__name__)

VERSION = "1"
PAGE = 200
_DETAIL = "written down while Postgres was away"


class Drain:
    """Gives what was written down to Postgres. `settle` is the ledger's."""

    def __init__(
        self, spool: Spool, settle: Callable[[Settlement], Awaitable[SettleAnswer]]
    ) -> None:
        self._spool = spool
        self._settle = settle

    async def run(self) -> int:
        """Settle every entry and delete it; how many rows took theirs. Raises errors.Away.

        A row that its owner, another drain or an operator has ended meanwhile stays as it is.
        """
        taken, after = 0, "-"
        while entries := await self._spool.page(after, PAGE):
            answers = await asyncio.gather(*map(self._give, entries))
            taken += sum(isinstance(answer, Settled) for answer in answers)
            known = [entry.id for entry in entries if entry.settlement is not None]
            await self._spool.drop(*known)
            after = f"({entries[-1].id}"
        if taken:
            log.warning("outcomes drained", rows=taken)
        return taken

    async def _give(self, entry: SpoolEntry) -> SettleAnswer | None:
        if entry.settlement is None:
            log.warning("an outcome of another version is left alone", entry=entry.id)
            return None
        try:
            return await self._settle(entry.settlement)
        except RowRefused as error:
            # There are only words of ours in it: at the next try it would be the same.
            log.error("an outcome was refused", row=entry.settlement.id, reason=str(error))
            return None


def to_fields(settlement: Settlement) -> dict[str, str]:
    """Write a settlement down, without what names or quotes anybody."""
    bounced = {fingerprint(settlement.token, one) for one in _bounced(settlement.ending)}
    words = {
        "row": settlement.id,
        "token": settlement.token,
        "withdraw": settlement.withdraw,
        "bounced": sorted(bounced | settlement.bounced),
        **_words(settlement.ending),
    }
    return {"version": VERSION, "outcome": json.dumps(words)}


def from_fields(fields: Mapping[str, str]) -> Settlement | None:
    """Read what to_fields wrote, by whatever replica; None when it is none of this version."""
    if fields.get("version") != VERSION:
        return None
    try:
        words = json.loads(fields["outcome"])
        withdraw = tuple(int(row) for row in words["withdraw"])
        # Replicas that are older wrote none.
        bounced = frozenset(str(one) for one in words.get("bounced", ()))
        row, token = int(words["row"]), str(words["token"])
        return Settlement(row, token, _ending(words), withdraw, bounced)
    except (KeyError, TypeError, ValueError):
        return None


def _bounced(ending: Ending) -> Sequence[str]:
    """Return the addresses that this ending suppresses."""
    match ending:
        case MarkFailed(FailReason.HARD_BOUNCE, suppress=addresses):
            return addresses
        case MarkSent(hard_bounced=refused):
            return [one.recipient for one in refused]
        case _:
            return ()


def _words(ending: Ending) -> dict[str, Any]:
    match ending:
        case MarkSent(message_id):
            return {"ending": "sent", "message_id": message_id}
        case MarkFailed(reason, _, attempt_spent):
            return {"ending": "failed", "reason": reason.value, "attempt_spent": attempt_spent}
        case MarkRetry(_, seconds):
            return {"ending": "retry", "seconds": seconds}
        case MarkReleased(_, seconds, unknown):
            return {"ending": "released", "seconds": seconds, "unknown": unknown}
        case MarkInDoubt(message_id, _, resend):
            return {"ending": "in_doubt", "message_id": message_id, "resend": resend}
        case _:
            assert_never(ending)


def _ending(words: dict[str, Any]) -> Ending:
    match words["ending"]:
        case "sent":
            return MarkSent(str(words["message_id"]), _DETAIL)
        case "failed":
            spent = bool(words["attempt_spent"])
            return MarkFailed(FailReason(words["reason"]), _DETAIL, spent)
        case "retry":
            return MarkRetry(_DETAIL, float(words["seconds"]))
        case "released":
            return MarkReleased(_DETAIL, float(words["seconds"]), bool(words["unknown"]))
        case "in_doubt":
            return MarkInDoubt(str(words["message_id"]), _DETAIL, bool(words["resend"]))
        case other:
            raise ValueError(f"an unknown ending: {other}")
