"""Gathers what a verdict is made of: from the SMTP server's store, from Postgres, from Redis."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING

import redis.asyncio

from campaign_worker.demo.campaign import SCHEMA, address
from campaign_worker.demo.verdict import Delivery, Evidence, Jobs, Row
from campaign_worker.queue.keys import QueueKeys
from campaign_worker.queue.producer import Producer
from campaign_worker.sequence.jobs import mail_job
from campaign_worker.storage.statements import load_statements, quoted_schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from asyncpg import Connection

    from campaign_worker.demo.verdict import Handover
    from campaign_worker.embedded.smtp_sink import SmtpSinkProcess

STEPS = 2
QUEUE = "campaign"

_TABLES = quoted_schema(SCHEMA)
_ROWS = (
    "SELECT r.id AS recipient_id, r.email, m.step, m.state, m.message_id, m.attempts"
    f" FROM {_TABLES}.messages m JOIN {_TABLES}.recipients r ON r.id = m.recipient_id"
    " WHERE m.campaign_id = $1"
)
_SENT_COUNT = f"SELECT sent_count FROM {_TABLES}.campaign_counts WHERE campaign_id = $1"
_USAGE = f"SELECT count(*) FROM {_TABLES}.usage_events"
_ENDED = frozenset({"completed", "failed"})
_SOCKET_SECONDS = 10.0
_PAGE = 1000


async def gather(  # noqa: PLR0913 - everything that was counted, passed by name
    *,
    connection: Connection,
    redis_url: str,
    sink: SmtpSinkProcess,
    campaign_id: int,
    recipients: int,
    enqueued: int,
    handover: Handover | None,
    began_at: float,
) -> Evidence:
    """Count everything once; `began_at` is time.monotonic() of the start."""
    rows = await connection.fetch(_ROWS, campaign_id)
    job_ids = [mail_job(campaign_id, row["recipient_id"], row["step"]).id for row in rows]
    return Evidence(
        expected=[address(number) for number in range(1, recipients + 1)],
        steps=STEPS,
        enqueued=enqueued,
        rows=[
            Row(row["email"], row["step"], row["state"], row["message_id"], row["attempts"])
            for row in rows
        ],
        deliveries=[
            Delivery(recipient, mail.message_id)
            for mail in sink.mails()
            for recipient in mail.recipients
        ],
        sent_count=await connection.fetchval(_SENT_COUNT, campaign_id),
        usage_events=await connection.fetchval(_USAGE),
        untrue_counts=len(await connection.fetch(load_statements(SCHEMA)["verify_counts"])),
        jobs=await _jobs(redis_url, job_ids),
        handover=handover,
        seconds=time.monotonic() - began_at,
    )


async def _jobs(redis_url: str, job_ids: Sequence[str]) -> Jobs:
    client = redis.asyncio.Redis.from_url(
        redis_url, decode_responses=True, socket_timeout=_SOCKET_SECONDS
    )
    async with client:
        counts = await Producer(client, QUEUE).counts()
        stalled = retried = 0
        keys = QueueKeys(QUEUE)
        for page in _pages(job_ids):
            async with client.pipeline(transaction=False) as pipeline:
                for job_id in page:
                    # Stalled and attempts made, as BullMQ's scripts name them.
                    _ = pipeline.hmget(keys.job(job_id), ["stc", "atm"])
                for stc, atm in await pipeline.execute():
                    stalled += int(stc or 0) > 0
                    retried += int(atm or 0) > 1
    return Jobs(
        left={state: count for state, count in counts.items() if state not in _ENDED},
        completed=counts["completed"],
        failed=counts["failed"],
        stalled=stalled,
        retried=retried,
    )


def _pages(ids: Sequence[str]) -> Iterable[tuple[str, ...]]:
    them = iter(ids)
    while page := tuple(itertools.islice(them, _PAGE)):
        yield page
