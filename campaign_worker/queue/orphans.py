"""Finds jobs that a lost reply claimed for this worker, and hands them back: no attempt, no stall.

Such a job is active under one of our tokens although no slot runs it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from redis.exceptions import ResponseError

if TYPE_CHECKING:
    from campaign_worker.queue.flight import Tokens
    from campaign_worker.queue.link import Link
    from campaign_worker.queue.protocol import Protocol


async def return_orphans(
    link: Link,
    protocol: Protocol,
    tokens: Tokens,
    *,
    runs: Callable[[str, str], bool],
    on_returned: Callable[[str], None],
    on_error: Callable[[BaseException], None],
) -> None:
    """Hand back every job that is ours in Redis and that `runs(job_id, token)` does not know.

    Raises errors.RedisAway when the connection is lost again meanwhile.
    """
    try:
        flat = await link.execute(protocol.claimed_by(tokens.prefix))
    except ResponseError as error:
        on_error(error)
        return
    for job_id, token in zip(flat[::2], flat[1::2], strict=True):
        if tokens.is_out(token) or runs(job_id, token):
            continue
        try:
            reply = await link.execute(protocol.hand_back(job_id, token))
        except ResponseError as error:
            on_error(error)
            continue
        if reply >= 0:
            on_returned(job_id)
    if flat:
        try:
            await link.execute(protocol.restore_marker())
        except ResponseError as error:
            # Only a hint: a full Redis refuses it, and still lets jobs finish.
            on_error(error)
