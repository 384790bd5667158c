"""What a claim does before it reads its rows: they are made, reopened and looked at.

Runs in the claim's transaction. Decides nothing about a mail.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from asyncpg.pool import PoolConnectionProxy

from campaign_worker.delivery.requests import CampaignRequest, InlineRequest, JobRef, Request
from campaign_worker.storage.claim_rows import keys_of
from campaign_worker.storage.inline import inline_to_json

Statements = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ClaimItem:
    """One job's wish: which mail, under which token, from which job; `alone` in its process."""

    request: Request
    token: str
    job: JobRef
    alone: bool = False


def weight_of(item: ClaimItem) -> int:
    """Give about how many bytes of a mail travel with a claim."""
    if not isinstance(item.request, InlineRequest):
        return 0
    mail = item.request.mail
    attached = sum(len(one.content) for one in mail.attachments)
    return len(mail.html or "") + len(mail.text or "") + attached


async def ensure_rows(
    connection: PoolConnectionProxy, sql: Statements, items: Sequence[ClaimItem]
) -> None:
    """Make the rows that jobs came before, and remember their jobs."""
    campaign = [(i, i.request) for i in items if isinstance(i.request, CampaignRequest)]
    inline = [(i, i.request) for i in items if isinstance(i.request, InlineRequest)]
    if campaign:
        await connection.execute(
            sql["ensure_campaign_messages"],
            [request.campaign_id for _, request in campaign],
            [request.recipient_id for _, request in campaign],
            [request.step for _, request in campaign],
            [item.job.queue for item, _ in campaign],
            [item.job.job_id for item, _ in campaign],
            [item.job.timestamp_ms for item, _ in campaign],
        )
    if inline:
        await connection.execute(
            sql["ensure_inline_messages"],
            [request.campaign_id for _, request in inline],
            [request.key for _, request in inline],
            [inline_to_json(request.mail) for _, request in inline],
            [item.job.queue for item, _ in inline],
            [item.job.job_id for item, _ in inline],
            [item.job.timestamp_ms for item, _ in inline],
        )


async def reopen_retried(
    connection: PoolConnectionProxy, sql: Statements, items: Sequence[ClaimItem], locked: set[int]
) -> None:
    """Schedule what ran out of attempts and whose job somebody has retried."""
    # A job that has never failed cannot have been.
    retried = [item for item in items if item.job.attempts_made > 0]
    if retried:
        await connection.execute(
            sql["reopen_exhausted"],
            *keys_of([item.request for item in retried])[1:],
            [item.job.queue for item in retried],
            [item.job.job_id for item in retried],
            sorted(locked),
            [item.job.attempts_made for item in retried],
            [item.job.timestamp_ms for item in retried],
        )


async def recipients_at_rest(
    connection: PoolConnectionProxy, sql: Statements, items: Sequence[ClaimItem]
) -> set[int | None]:
    """Tell whose row nobody is changing; None stands for a mail without a recipient's row."""
    wanted = [
        item.request.recipient_id for item in items if isinstance(item.request, CampaignRequest)
    ]
    if not wanted:
        return {None}
    # Only a look: locks that were kept would meet those of an app that unsubscribes many in one
    # transaction, and one of the two would have to die.
    look = connection.transaction()
    await look.start()
    rows = await connection.fetch(sql["recipients_at_rest"], wanted)
    await look.rollback()
    return {None, *(row["id"] for row in rows)}
