"""What a chaos run ends with: everybody's word compared, as one JSON object.

What was enqueued, what the SMTP server accepted, what Postgres says, what Redis still holds.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from campaign_worker.embedded.smtp_server import ReceivedMail
from campaign_worker.storage.statements import load_statements
from tests.chaos.kill.sink import OpenMail

SCHEMA = "campaign_worker"
HOLD, RESEND, IDEMPOTENT = "hold", "resend", "idempotent"
POLICIES = (HOLD, RESEND, IDEMPOTENT)
_ROUNDING_MS = 1

_ROWS = """
SELECT r.id AS recipient_id, r.campaign_id, r.email, m.step, m.state, m.reason, m.detail,
       m.attempts, m.message_id,
       (extract(epoch FROM m.due_at) * 1000)::bigint AS due_ms
FROM campaign_worker.recipients r LEFT JOIN campaign_worker.messages m ON m.recipient_id = r.id
"""
_SENT_COUNT = "SELECT coalesce(sum(sent_count), 0)::bigint FROM campaign_worker.campaign_counts"
_USAGE = "SELECT count(*) FROM campaign_worker.usage_events"


@dataclass(frozen=True, slots=True)
class Books:
    """What Postgres says at one moment."""

    rows: Sequence[Mapping[str, Any]]
    sent_count: int
    usage: int
    untrue_counts: int


@dataclass(frozen=True, slots=True)
class Report:
    """The figures of a run. The first seven are what guarantees are about.

    `lost`: mails that are due, were never accepted, and that no row holds for an operator.
    `duplicated`: accepted once more than once. `duplicated_unexplained`: those of them that were
    not between mark and settle at a kill, or whose repetition was not the same to the byte.
    `miscounted`: by how much rows, counts, usage and the SMTP server differ. `stuck`: rows that
    are not final and jobs that are left at the end. `in_doubt_limit`: mails that the SMTP server
    saw between 354 and the next word of their connection at the kills; `in_doubt_unexplained` are
    rows in doubt that are not among them, by recipient and step. `early`: mails that came before
    they were due. `cuts`: faults that are no kills. `at`: kills or cuts by named point.
    `attempts_spent`: rows on which our outages cost one. `doubts`: what the rows in doubt say.
    `at_odds`: jobs that have ended otherwise than their rows, and rows whose jobs are gone that are
    kept for ever, out of `jobs_compared`; `odds` says which.
    `broken`: why the faults ended before their number was full.
    """

    lost: int
    duplicated: int
    miscounted: int
    stuck: int
    in_doubt: int
    in_doubt_limit: int
    kills: int
    cuts: int
    mails: int
    accepted: int
    duplicated_unexplained: int
    in_doubt_unexplained: int
    early: int
    attempts_spent: int
    quarantined: int
    doubts: dict[str, int]
    jobs_compared: int
    at_odds: int
    odds: dict[str, int]
    at: dict[str, int]
    seconds: float
    policy: str
    seed: int
    faults: str
    broken: str = ""

    def to_json(self) -> str:
        """Return one line."""
        return json.dumps(dataclasses.asdict(self))

    def to_row(self, arguments: str, day: dt.date) -> str:
        """Return the row of this run in the table of docs/guarantees.md."""
        faults = [f"{self.kills:,} kills"] if self.kills else []
        faults += [f"{self.cuts:,} other faults"] if self.cuts else []
        figures = [self.lost, self.duplicated, self.miscounted, self.stuck, self.early]
        cells = [
            *(str(day), f"`{arguments}`", ", ".join(faults), f"{self.mails:,}"),
            *(f"{figure:,}" for figure in figures),
            f"{self.in_doubt:,} ({self.in_doubt_limit:,})",
        ]
        return f"| {' | '.join(cells)} |"

    @property
    def good(self) -> bool:
        """Whether the run shows what is promised for its policy."""
        zeros = self.lost + self.miscounted + self.stuck + self.duplicated_unexplained
        zeros += self.in_doubt_unexplained + self.early + self.at_odds
        if self.policy != RESEND:
            # Under resend an unknown outcome costs an attempt, so that nobody gets a mail for ever.
            zeros += self.duplicated + self.attempts_spent
        return zeros == 0 and self.in_doubt <= self.in_doubt_limit and not self.broken


async def read_books(connection: asyncpg.Connection[asyncpg.Record]) -> Books:
    """Ask Postgres once."""
    return Books(
        rows=[dict(row) for row in await connection.fetch(_ROWS)],
        sent_count=await connection.fetchval(_SENT_COUNT),
        usage=await connection.fetchval(_USAGE),
        untrue_counts=len(await connection.fetch(load_statements(SCHEMA)["verify_counts"])),
    )


@dataclass(frozen=True, slots=True)
class Findings:
    """What the comparison of books and mails found."""

    doubts: dict[str, int]

    lost: int
    duplicated: int
    duplicated_unexplained: int
    miscounted: int
    in_doubt: int
    in_doubt_unexplained: int
    early: int
    attempts_spent: int
    quarantined: int


def compare(
    books: Books,
    mails: Sequence[ReceivedMail],
    cut_off: Sequence[OpenMail],
    *,
    steps: int,
    policy: str,
    not_before: Mapping[str, int],
) -> Findings:
    """Compare everybody with everybody. `not_before`: epoch milliseconds of first mails' jobs."""
    by_key = defaultdict(list)
    for mail in mails:
        for address in mail.recipients:
            by_key[address, mail.message_id].append(mail)
    per_address = Counter(address for mail in mails for address in mail.recipients)
    explained = _explained(books, cut_off, repeats=policy == RESEND)
    states = Counter(row["state"] for row in books.rows)
    repeated = {key: found for key, found in by_key.items() if len(found) > 1}
    beyond = sum(max(0, count - steps) for count in per_address.values())
    doubtful = [row for row in books.rows if row["state"] == "in_doubt"]
    return Findings(
        doubts=dict(Counter(row["detail"] or "" for row in doubtful)),
        lost=_lost(books, set(by_key), steps),
        duplicated=max(sum(len(found) - 1 for found in repeated.values()), beyond),
        duplicated_unexplained=sum(
            key not in explained or len({mail.content for mail in found}) > 1
            for key, found in repeated.items()
        ),
        miscounted=_miscounted(books, set(by_key), states["sent"]),
        in_doubt=len(doubtful),
        in_doubt_unexplained=sum(_key(row) not in explained for row in doubtful),
        # Elsewhere a row that was scheduled again is due later than its first mail was sent.
        early=_early(books, by_key, not_before) if policy == HOLD else 0,
        attempts_spent=sum(bool(row["attempts"]) for row in books.rows),
        quarantined=sum(row["reason"] == "quarantined" for row in books.rows),
    )


def _key(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["email"], row["message_id"]


def _explained(books: Books, cut_off: Sequence[OpenMail], *, repeats: bool) -> set[tuple[str, str]]:
    """Return recipients and Message-IDs of the mails that were cut off at kills.

    Of one whose content never came in, the recipient is known and how many mails it had accepted
    before: that is the step, unless a mail that was accepted is sent again.
    """
    open_mails = defaultdict(list)
    for mail in cut_off:
        open_mails[mail.recipient].append(mail)
    return {
        _key(row)
        for row in books.rows
        for mail in open_mails.get(row["email"], ())
        if (
            mail.message_id == row["message_id"]
            if mail.message_id is not None
            else row["step"] == len(mail.before) or (repeats and row["message_id"] in mail.before)
        )
    }


def _early(
    books: Books,
    by_key: Mapping[tuple[str, str], list[ReceivedMail]],
    not_before: Mapping[str, int],
) -> int:
    """Count mails that came before their row or, the first ones, their job was due."""
    early = 0
    for row in books.rows:
        due_ms = row["due_ms"]
        if row["step"] == 0:
            due_ms = max(due_ms, not_before.get(row["email"], 0))
        early += sum(mail.received_ms < due_ms - _ROUNDING_MS for mail in by_key.get(_key(row), ()))
    return early


def _lost(books: Books, accepted: set[tuple[str, str]], steps: int) -> int:
    """Count mails that are due and nowhere: no row, a row that says sent, or failed for nothing.

    A row in doubt is no loss: it is held for an operator, and no later step is due.
    """
    rows: dict[str, dict[int, Mapping[str, Any]]] = defaultdict(dict)
    for row in books.rows:
        rows[row["email"]].update({} if row["step"] is None else {row["step"]: row})
    lost = 0
    for email, by_step in rows.items():
        for step in range(steps):
            row = by_step.get(step)
            if row is not None and row["state"] == "in_doubt":
                break
            lost += row is None or (email, row["message_id"]) not in accepted
    return lost


def _miscounted(books: Books, accepted: set[tuple[str, str]], sent: int) -> int:
    """Add up how far rows, counts, usage and the SMTP server are apart."""
    rows = {(row["email"], row["message_id"]): row["state"] for row in books.rows}
    untold = sum(rows.get(mail) not in ("sent", "in_doubt") for mail in accepted)
    claimed = sum(state == "sent" and mail not in accepted for mail, state in rows.items())
    drift = abs(books.sent_count - sent) + abs(books.usage - sent)
    return untold + claimed + drift + books.untrue_counts
