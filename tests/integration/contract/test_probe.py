"""A contract that does not fit the live database is told line by line, with what to do."""

from __future__ import annotations

import uuid

import asyncpg
import pytest

from campaign_worker.contract import reading
from campaign_worker.errors import ContractError
from campaign_worker.storage.contract_probe import ContractProbe
from campaign_worker.storage.database import Database
from tests.integration.contract.apps import PRISMA_CONTRACT, App, Drizzle, Prisma


def probe_of(database: Database, text: str) -> ContractProbe:
    return ContractProbe(database, reading.read(text, "c.toml"))


async def told(database: Database, text: str) -> list[str]:
    with pytest.raises(ContractError) as caught:
        await probe_of(database, text).verify()
    return str(caught.value).splitlines()


async def test_a_contract_that_fits_has_nothing_to_say(app: App, database: Database) -> None:
    probe = probe_of(database, app.contract)
    await probe.verify()
    assert all(look.plan for look in await probe.looks())


@pytest.mark.parametrize(
    ("before", "after", "word", "said"),
    [
        (
            'r."campaignId" AS',
            'r."campaign" AS',
            'r."campaignId" AS',
            "load.recipients: column r.campaign does not exist",
        ),
        (
            'c."status",',
            "c.status, c.nmae,",
            'c."status",',
            "load.campaigns: column c.nmae does not exist (Perhaps you meant to reference",
        ),
        (
            'FROM "Recipient" r\nWHERE r."id"',
            'FROM Recipient r\nWHERE r."id"',
            'FROM "Recipient" r\nWHERE r."id"',
            'load.recipients: relation "recipient" does not exist (names with capitals, as',
        ),
        (
            'recipient = "uuid"',
            'recipient = "text"',
            'WHERE r."id" = ANY(:ids)',
            "load.recipients: operator does not exist: uuid = text ([ids] says campaign uuid,",
        ),
        (
            ' AS html, c."fromEmail"',
            ', c."fromEmail"',
            "query =",
            "load.campaigns: gives none of html, text",
        ),
        (
            'c."status", c."name"',
            'c."status" = \'RUNNING\' AS status, c."name"',
            "query =",
            "load.campaigns: column status is boolean, not text, varchar, citext or an enum",
        ),
        (
            'r."email",\n',
            'r."email" AS mail,\n',
            'query = """\nSELECT r."id", r."camp',
            "load.recipients: gives no column email, but id, campaign_id, mail, firstName,",
        ),
        (
            'SELECT r."id" FROM',
            'SELECT r."id"::text FROM',
            'query = """\nSELECT r."id" FROM',
            "load.audience: column id is text, and [ids] recipient says uuid (say recipient =",
        ),
        (
            "+ w.sent,",
            "+ w.snet,",
            'SET "sentCount"',
            "write.campaigns: column w.snet does not",
        ),
        (
            'lower(s."email")',
            "lower(s)",
            "WHERE lower",
            'load.suppressions: function lower("Suppression") does not exist',
        ),
    ],
)
async def test_what_does_not_fit_is_told_with_line_and_remedy(
    prisma: Prisma, database: Database, before: str, after: str, word: str, said: str
) -> None:
    assert prisma.contract.count(before) >= 1
    place = PRISMA_CONTRACT.index(word)
    line = PRISMA_CONTRACT[:place].count("\n") + 1
    found = await told(database, PRISMA_CONTRACT.replace(before, after, 1))
    assert any(one.startswith(f"c.toml:{line}: {said}") for one in found), found


async def test_a_right_that_is_missing_is_told(
    drizzle: Drizzle, database_url: str, database: Database
) -> None:
    role = f"r{uuid.uuid4().hex[:8]}"
    await drizzle.raw.execute(f"CREATE ROLE {role}")
    await drizzle.raw.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
    try:
        async with database.transaction() as connection:
            await connection.execute(f"SET ROLE {role}")
        assert await told(database, drizzle.contract)
    finally:
        async with database.transaction() as connection:
            await connection.execute("RESET ROLE")
        await drizzle.raw.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_a_sample_is_read_and_nothing_can_be_written_by_it(
    drizzle: Drizzle, database: Database
) -> None:
    campaign = await drizzle.campaign(1)
    probe = probe_of(database, drizzle.contract)
    (row,) = await probe.sample("load.campaigns", {"ids": [int(campaign.id)]})
    assert row["subject"] == "Hello {{ name }}"
    greedy = drizzle.contract.replace(
        "SELECT id, state AS status, title AS name, subject_line AS subject, body_text AS text\n"
        "FROM mail_campaigns WHERE id = ANY(:ids)",
        "DELETE FROM outbox RETURNING id, state AS status, 'a' AS subject, 'b' AS text",
    )
    await drizzle.raw.execute("INSERT INTO outbox DEFAULT VALUES")
    assert greedy != drizzle.contract
    await probe_of(database, greedy).sample("load.campaigns", {"ids": []})
    assert await drizzle.raw.fetchval("SELECT count(*) FROM outbox") == 1


async def test_a_table_without_an_index_for_its_keys_is_noticed(
    drizzle: Drizzle, database: Database
) -> None:
    looks = {look.place: look for look in await probe_of(database, drizzle.contract).looks()}
    assert looks["load.mails"].scans == ("outbox",)
    assert looks["load.campaigns"].scans == ()
    assert isinstance(drizzle.raw, asyncpg.Connection)
