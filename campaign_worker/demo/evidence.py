"""Gathers what a verdict is made of: from the SMTP server, Postgres, Redis and the readers."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections import Counter
from typing import TYPE_CHECKING

from redis.asyncio import Redis

from campaign_worker.demo.campaign import SCHEMA, address
from campaign_worker.demo.facts import Delivery, Evidence, Jobs, Row
from campaign_worker.demo.reading import Counts, Seen, Tracked
from campaign_worker.queue.keys import QueueKeys
from campaign_worker.queue.producer import Producer
from campaign_worker.sequence.jobs import mail_job
from campaign_worker.storage.statements import load_statements, quoted_schema
from campaign_worker.tracking.classify import EventKind, Visitor

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from asyncpg import Connection

    from campaign_worker.demo.facts import Handover
    from campaign_worker.demo.reading import Reading
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
_EVENTS = (
    "SELECT coalesce(m.message_id, '') AS message_id, e.kind, e.class, e.machine, count(*) AS times"
    f" FROM {_TABLES}.tracking_events e JOIN {_TABLES}.messages m ON m.id = e.message_id"
    " WHERE e.kind <> 'unsubscribe' GROUP BY m.id, e.kind, e.class, e.machine"
)
_UNSUBSCRIBED = (
    f"SELECT email FROM {_TABLES}.recipients WHERE campaign_id = $1 AND unsubscribed_at IS NOT NULL"
)
_COUNTS = (
    "SELECT unique_open_count AS opened, open_count AS opens, machine_open_count AS machine_opens,"
    " unique_click_count AS clicked, click_count AS clicks, machine_click_count AS machine_clicks,"
    f" unsubscribed_count AS unsubscribed FROM {_TABLES}.campaign_counts WHERE campaign_id = $1"
)
_ENDED = frozenset({"completed", "failed"})
_SOCKET_SECONDS = 10.0
_PAGE = 1000


async def gather(  # noqa: PLR0913 - everything that was counted, passed by name
    *,
    connection: Connection,
    redis: Redis,
    sink: SmtpSinkProcess,
    campaign_id: int,
    recipients: int,
    enqueued: int,
    reading: Reading,
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
        jobs=await _jobs(redis, job_ids),
        reading=reading,
        tracked=await _tracked(connection, campaign_id),
        handover=handover,
        seconds=time.monotonic() - began_at,
    )


async def _tracked(connection: Connection, campaign_id: int) -> Tracked:
    seen: Counter[Seen] = Counter()
    for row in await connection.fetch(_EVENTS):
        kind, visitor = EventKind(row["kind"]), Visitor(row["class"])
        seen[Seen(row["message_id"], kind, visitor, row["machine"])] += row["times"]
    counts = await connection.fetchrow(_COUNTS, campaign_id)
    if counts is None:
        raise RuntimeError("a campaign without counts")
    return Tracked(
        seen=seen,
        unsubscribed=frozenset(
            row["email"] for row in await connection.fetch(_UNSUBSCRIBED, campaign_id)
        ),
        counts=Counts(**{field.name: counts[field.name] for field in dataclasses.fields(Counts)}),
    )


def redis_client(url: str) -> Redis:
    """Return a client whose commands are bounded; a context manager."""
    return Redis.from_url(url, decode_responses=True, socket_timeout=_SOCKET_SECONDS)


async def jobs_left(client: Redis) -> int:
    """Return how many jobs are neither completed nor failed."""
    counts = await Producer(client, QUEUE).counts()
    return sum(count for state, count in counts.items() if state not in _ENDED)


async def _jobs(client: Redis, job_ids: Sequence[str]) -> Jobs:
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
