"""What became of a campaign, by everybody's word: one reading and one comparison for all tests.

The SMTP server says what it accepted, Postgres what its rows and counts are, Redis what is left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import redis.asyncio

from campaign_worker.embedded.smtp_server import ReceivedMail
from campaign_worker.queue.keys import QueueKeys
from campaign_worker.sequence.jobs import mail_job
from campaign_worker.storage.statements import load_statements

SCHEMA = "campaign_worker"
OPEN_STATES = ("waiting", "paused", "active", "prioritized", "delayed", "waiting-children")

_ROWS = """
SELECT r.id, r.email, m.step, m.state, m.attempts, m.message_id FROM campaign_worker.recipients r
LEFT JOIN campaign_worker.messages m ON m.recipient_id = r.id WHERE r.campaign_id = $1
"""
_COUNTS = "SELECT * FROM campaign_worker.campaign_counts WHERE campaign_id = $1"
_USAGE = """
SELECT count(*) FROM campaign_worker.usage_events u
JOIN campaign_worker.messages m ON m.id = u.message_id WHERE m.campaign_id = $1
"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Numbers that a test compares with those it expects; the troubles are 0 unless it says so.

    `lost`: mails that are due, were never accepted, and that no row accounts for. `duplicated`:
    what an address got beyond one mail a step. `miscounted`: by how much rows, counts, usage and
    the SMTP server differ. `attempts_changed`: rows and jobs on which more than one attempt was
    spent. `stalled`: jobs that stalled. `started_twice`: jobs that were started more than once,
    which is no trouble by itself: a job that was handed back is.
    """

    accepted: int
    states: Mapping[str, int]
    lost: int = 0
    duplicated: int = 0
    miscounted: int = 0
    attempts_changed: int = 0
    stalled: int = 0
    started_twice: int = field(default=0, compare=False)
    jobs_left: int = 0
    jobs_failed: int = 0


def flawless(mails: int) -> Verdict:
    """Return the verdict of a campaign that nothing happened to."""
    return Verdict(accepted=mails, states={"sent": mails})


@dataclass(frozen=True, slots=True)
class Reading:
    """Everything that was read once; `rows` has a row without step for a recipient without mail."""

    steps: int
    rows: Sequence[Mapping[str, Any]]
    counts: Mapping[str, int]
    usage: int
    untrue_counts: int
    jobs: Mapping[str, tuple[int, int, int]]
    job_counts: Mapping[str, int]
    mails: Sequence[ReceivedMail]

    @property
    def finished(self) -> bool:
        """Whether nothing can happen any more: every row final, no job left."""
        final = ("sent", "failed", "skipped", "in_doubt")
        expected = sum(row["state"] in final for row in self.rows)
        jobs_left = sum(self.job_counts[state] for state in OPEN_STATES)
        return expected == len(self.rows) and jobs_left == 0


async def read(
    *,
    connection: asyncpg.Connection[asyncpg.Record],
    client: redis.asyncio.Redis,
    keys: QueueKeys,
    counts: Mapping[str, int],
    campaign: int,
    steps: int,
    mails: Sequence[ReceivedMail],
) -> Reading:
    """Read everybody once."""
    rows = [dict(row) for row in await connection.fetch(_ROWS, campaign)]
    ids = [mail_job(campaign, row["id"], row["step"] or 0).id for row in rows]
    jobs = {}
    for job_id in ids:
        stalled, made, started = await client.hmget(keys.job(job_id), ["stc", "atm", "ats"])
        jobs[job_id] = (int(stalled or 0), int(made or 0), int(started or 0))
    addresses = {row["email"] for row in rows}
    return Reading(
        steps=steps,
        rows=rows,
        counts=dict(await connection.fetchrow(_COUNTS, campaign) or {}),
        usage=await connection.fetchval(_USAGE, campaign),
        untrue_counts=len(await connection.fetch(load_statements(SCHEMA)["verify_counts"])),
        jobs=jobs,
        job_counts=counts,
        mails=[mail for mail in mails if addresses & set(mail.recipients)],
    )


def judge(reading: Reading) -> Verdict:
    """Compare everybody with everybody."""
    states = Counter(row["state"] for row in reading.rows if row["state"] is not None)
    jobs = reading.jobs.values()
    return Verdict(
        accepted=len(reading.mails),
        states=dict(states),
        lost=_lost(reading),
        duplicated=_duplicated(reading),
        miscounted=_miscounted(reading, states),
        attempts_changed=sum(row["attempts"] not in (None, 0) for row in reading.rows)
        + sum(made > 1 for _, made, _ in jobs),
        stalled=sum(stalled > 0 for stalled, _, _ in jobs),
        started_twice=sum(started > 1 for _, _, started in jobs),
        jobs_left=sum(reading.job_counts[state] for state in OPEN_STATES),
        jobs_failed=reading.job_counts["failed"],
    )


def _lost(reading: Reading) -> int:
    """Count mails that are due and were not accepted.

    From a row on that was skipped, failed or is in doubt, no step of its recipient is due.
    """
    mails = Counter(address for mail in reading.mails for address in mail.recipients)
    due = {row["email"]: reading.steps for row in reading.rows}
    for row in reading.rows:
        if row["state"] in ("skipped", "failed", "in_doubt"):
            due[row["email"]] = min(due[row["email"]], row["step"])
    return sum(max(0, steps - mails[address]) for address, steps in due.items())


def _duplicated(reading: Reading) -> int:
    mails = Counter((one, mail.message_id) for mail in reading.mails for one in mail.recipients)
    by_address = Counter(one for mail in reading.mails for one in mail.recipients)
    repeated = sum(count - 1 for count in mails.values())
    beyond = sum(max(0, count - reading.steps) for count in by_address.values())
    return max(repeated, beyond)


def _miscounted(reading: Reading, states: Mapping[str, int]) -> int:
    accepted = {(one, mail.message_id) for mail in reading.mails for one in mail.recipients}
    rows = {(row["email"], row["message_id"]): row["state"] for row in reading.rows}
    # A row that the reconciler put in doubt knows no Message-ID; its owner had not come to say it.
    honest = {row["email"] for row in reading.rows if row["state"] == "in_doubt"}
    untold = sum(rows.get(mail) != "sent" and mail[0] not in honest for mail in accepted)
    claimed = sum(state == "sent" and mail not in accepted for mail, state in rows.items())
    sent = states.get("sent", 0)
    drift = abs(reading.counts["sent_count"] - sent) + abs(reading.usage - sent)
    return int(untold + claimed + drift + reading.untrue_counts)
