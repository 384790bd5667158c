"""What was claimed, marked or settled is on the disk, whatever a database is set to by default."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest

from tests.integration.storage.kit import world_of

_WITNESS = """
CREATE TABLE public.seen (setting text NOT NULL);
CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
  INSERT INTO public.seen VALUES (current_setting('synchronous_commit'));
  RETURN NULL;
END $body$;
CREATE TRIGGER witness AFTER INSERT OR UPDATE ON campaign_worker.messages
  FOR EACH ROW EXECUTE FUNCTION public.note();
"""


@pytest.mark.parametrize("pooler", [False, True], ids=["session", "transaction pooler"])
@pytest.mark.parametrize(
    ("of_database", "used"),
    [("off", "on"), ("on", "on"), ("local", "local"), ("remote_apply", "remote_apply")],
)
async def test_claim_mark_and_settle_wait_for_the_disk_although_the_database_would_not(
    database_url: str, *, of_database: str, used: str, pooler: bool
) -> None:
    connection: asyncpg.Connection[Any] = await asyncpg.connect(database_url)
    try:
        name = await connection.fetchval("SELECT current_database()")
        await connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = {of_database}")
        await connection.execute(_WITNESS)
    finally:
        await connection.close()
    async with world_of(database_url, transaction_pooler=pooler) as world:
        assert await world.value("SHOW synchronous_commit") == of_database
        campaign = await world.campaign()
        await world.sent(campaign.request())
        seen = await world.rows("SELECT setting FROM public.seen")
    assert len(seen) >= 3
    assert {row["setting"] for row in seen} == {used}
