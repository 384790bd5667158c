"""A long backlog whose jobs all wait: a tick of the reconciler over it stays short.

`BACKLOG=1000000 make test ARGS='-n 0 -k backlog_whose --junitxml=out.xml'` is the long form; what
it took is the property `tick_seconds`.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable

import pytest
import redis.asyncio

from campaign_worker.delivery.restoring import Restoring
from campaign_worker.sequence.jobs import mail_job
from tests.integration.storage.kit import world_of
from tests.integration.test_reviving import Yard

ROWS = int(os.environ.get("BACKLOG", "20000"))
PAGE = 20_000
TICK_SECONDS = 1.0


@pytest.fixture
async def yard(
    database_url: str, redis_client: redis.asyncio.Redis, prefix: str
) -> AsyncIterator[Yard]:
    async with world_of(database_url) as world:
        yard = Yard(world, redis_client, prefix)
        await Restoring(yard.recovery, yard.scheduler).step()
        yield yard


@pytest.mark.timeout(600)
async def test_a_tick_over_a_backlog_whose_jobs_all_wait_is_short_and_changes_nothing(
    yard: Yard, record_testsuite_property: Callable[[str, object], None]
) -> None:
    campaign = await yard.world.campaign(0)
    await yard.world.raw.execute("SET synchronous_commit = off")
    for start in range(0, ROWS, PAGE):
        rows = await yard.world.rows(
            "INSERT INTO $recipients (campaign_id, email)"
            " SELECT $1, n || '@example.com' FROM generate_series($2::int, $3::int) n RETURNING id",
            *(campaign.id, start, min(start + PAGE, ROWS) - 1),
        )
        ids = [mail_job(campaign.id, row["id"], 0).id for row in rows]
        async with yard.client.pipeline(transaction=False) as pipeline:
            for job_id in ids:
                pipeline.hset(yard.keys.job(job_id), "name", "send-email")
            pipeline.lpush(yard.keys.of("wait"), *ids)
            await pipeline.execute()
    await yard.world.execute(
        "INSERT INTO $messages (campaign_id, recipient_id, due_at, queue)"
        " SELECT campaign_id, id, now() - interval '1 hour', 'campaign' FROM $recipients"
        " WHERE campaign_id = $1 ORDER BY id",
        campaign.id,
    )
    for table in ("messages", "recipients", "campaigns"):
        await yard.world.execute(f"VACUUM ANALYZE ${table}")
    took = []
    for _ in range(5):
        began_at = time.monotonic()
        assert not await yard.reconciler.tick(), "nothing is in need, so there is no haste"
        took.append(time.monotonic() - began_at)
    assert yard.told == {}
    assert await yard.counts() == {"waiting": ROWS}
    record_testsuite_property("tick_seconds", max(took))
    # The bound is for a quiet machine.
    assert max(took) < 10 * TICK_SECONDS
