"""What the jobs that have ended say of their mails, compared with what the rows say."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import redis.asyncio

from campaign_worker.queue.keys import QueueKeys

_PAGE = 500
_FINAL = ("sent", "failed", "skipped", "in_doubt")


@dataclass(frozen=True, slots=True)
class EndedJob:
    """A job in `completed` or `failed`; `says` is the outcome in its result or failedReason."""

    recipient: int
    step: int
    state: str
    says: str
    message_id: str | None = None

    @classmethod
    def of(cls, state: str, data: str, value: str | None, reason: str | None) -> EndedJob:
        """Read a job's hash fields `data`, `returnvalue` and `failedReason`."""
        asked = json.loads(data)
        told = json.loads(value or "null") if state == "completed" else None
        told = told if isinstance(told, dict) else {}
        outcome = told.get("outcome") if state == "completed" else (reason or "").partition(":")[0]
        return cls(
            recipient=int(asked["recipientId"]),
            step=int(asked.get("step", 0)),
            state=state,
            says=str(outcome),
            message_id=told.get("messageId"),
        )


async def read_jobs(client: redis.asyncio.Redis, keys: QueueKeys) -> list[EndedJob]:
    """Read all jobs that have ended and are kept."""
    jobs = []
    for state in ("completed", "failed"):
        ids = await client.zrange(keys.of(state), 0, -1)
        for start in range(0, len(ids), _PAGE):
            async with client.pipeline(transaction=False) as pipeline:
                for job_id in ids[start : start + _PAGE]:
                    pipeline.hmget(keys.job(job_id), ["data", "returnvalue", "failedReason"])
                jobs += [EndedJob.of(state, *fields) for fields in await pipeline.execute()]
    return jobs


def odds(
    rows: Sequence[Mapping[str, Any]], jobs: Sequence[EndedJob], kept: Container[int]
) -> Counter[str]:
    """Count by kind where jobs and rows are at odds.

    `kept`: campaigns whose first mails' jobs are kept for ever, so that each must be there.
    """
    by_key = {(row["recipient_id"], row["step"]): row for row in rows if row["step"] is not None}
    found = Counter(
        problem for job in jobs if (problem := _problem(job, by_key.get((job.recipient, job.step))))
    )
    told = {(job.recipient, job.step) for job in jobs}
    found.update(
        f"row {row['state']}, no job"
        for row in rows
        if row["step"] == 0 and row["state"] in _FINAL and row["campaign_id"] in kept
        if (row["recipient_id"], 0) not in told
    )
    return found


def _problem(job: EndedJob, row: Mapping[str, Any] | None) -> str | None:
    state = None if row is None else row["state"]
    if state not in _states_behind(job):
        return f"job {job.state} ({job.says}), row {state}"
    if row is not None and job.says == "sent" and job.message_id != row["message_id"]:
        return "job sent another Message-ID than its row"
    return None


def _states_behind(job: EndedJob) -> tuple[str, ...]:
    """Return the states that a row may have whose job ended so."""
    match job.state, job.says:
        case "completed", "sent" | "skipped":
            return (job.says,)
        case "failed", "in_doubt":
            return ("in_doubt",)
        case "failed", _:
            return ("failed",)
        case _:
            return ()
