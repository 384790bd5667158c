"""What could not be told to an app is told later; a campaign that goes on is noticed."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from campaign_worker.contract_keeper import ContractKeeper
from campaign_worker.delivery.claims import Claimed, NotYet
from campaign_worker.errors import ContractBroken
from campaign_worker.storage.contract_upkeep import ContractUpkeep
from tests.integration.contract.kit import Place
from tests.support import eventually


async def test_an_ending_of_somebody_else_is_told(place: Place) -> None:
    campaign = await place.app.campaign(2)
    for index in range(2):
        assert isinstance(await place.claim(await place.request(campaign, index)), Claimed)
    await place.raw.execute(
        "UPDATE campaign_worker.messages SET state = 'sent', sent_at = now(), message_id = '<m@x>',"
        " lease_until = NULL"
    )
    upkeep = ContractUpkeep(place.database, place.tables)
    assert await upkeep.tell_untold() == 2
    assert await upkeep.tell_untold() == 0
    assert list((await place.app.statuses(campaign)).values()) == [2]
    assert await place.app.counts(campaign) == (2, 0)


async def test_a_broken_write_keeps_no_ending_from_our_rows_and_is_made_up_for(
    prisma_place: Place,
) -> None:
    place, campaign = prisma_place, await prisma_place.app.campaign(3)
    claims = [await place.claim(await place.request(campaign, index)) for index in range(3)]
    await place.raw.execute('ALTER TABLE "Recipient" RENAME "sentAt" TO "at"')
    for claim in claims:
        await place.end(claim)
    assert await place.ours("SELECT count(*) FROM $.messages WHERE state = 'sent'") == 3
    assert place.broken
    assert {one.statement for one in place.broken} == {"write.recipients"}
    assert await place.app.statuses(campaign) == {"PENDING": 3}
    upkeep = ContractUpkeep(place.database, place.tables)
    with pytest.raises(ContractBroken, match="sentAt"):
        await upkeep.tell_untold()
    await place.raw.execute('ALTER TABLE "Recipient" RENAME "at" TO "sentAt"')
    assert await upkeep.tell_untold() == 3
    assert await place.app.statuses(campaign) == {"SENT": 3}
    assert await place.app.counts(campaign) == (3, 0)


PICKY = {
    "constraint": """
        ALTER TABLE "Recipient" ADD CONSTRAINT picky CHECK ("status" <> 'SENT' OR "id" <> '{id}')
    """,
    "trigger": """
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'picky'; END $$;
        CREATE TRIGGER picky BEFORE UPDATE ON "Recipient" FOR EACH ROW
        WHEN (NEW."id" = '{id}') EXECUTE FUNCTION refuse()
    """,
    "trigger with a code of its own": """
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'picky' USING ERRCODE = 'APP07'; END $$;
        CREATE TRIGGER picky BEFORE UPDATE ON "Recipient" FOR EACH ROW
        WHEN (NEW."id" = '{id}') EXECUTE FUNCTION refuse()
    """,
    "trigger at the commit": """
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'picky'; END $$;
        CREATE CONSTRAINT TRIGGER picky AFTER UPDATE ON "Recipient" INITIALLY DEFERRED
        FOR EACH ROW WHEN (NEW."id" = '{id}') EXECUTE FUNCTION refuse()
    """,
    "reference that is looked at in the commit": """
        CREATE TABLE "Log" ("email" text CONSTRAINT picky REFERENCES "Suppression"
            DEFERRABLE INITIALLY DEFERRED);
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO "Log" VALUES ('nobody'); RETURN NEW; END $$;
        CREATE TRIGGER picky BEFORE UPDATE ON "Recipient" FOR EACH ROW
        WHEN (NEW."id" = '{id}') EXECUTE FUNCTION note()
    """,
}


DAWDLE = """
CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_sleep(60); RETURN NEW; END $$;
"""


@pytest.mark.parametrize("how", PICKY)
async def test_a_row_that_the_app_refuses_keeps_no_other_from_being_told(
    prisma_place: Place, how: str
) -> None:
    place, campaign = prisma_place, await prisma_place.app.campaign(4)
    await place.raw.execute(PICKY[how].replace("{id}", campaign.recipients[1]))
    claims = [await place.claim(await place.request(campaign, index)) for index in range(4)]
    for claim in claims:
        await place.end(claim)
    upkeep = ContractUpkeep(place.database, place.tables)
    await upkeep.tell_untold()
    assert await place.app.statuses(campaign) == {"SENT": 3, "PENDING": 1}
    assert await place.ours("SELECT count(*) FROM $.messages WHERE state = 'sent'") == 4
    problem = await place.ours("SELECT problem FROM $.contract_unwritten")
    assert "picky" in problem
    assert place.broken == []
    # It is not tried again at once.
    assert await upkeep.tell_untold() == 0


async def test_our_rows_wait_for_no_long_transaction_of_the_app(place: Place) -> None:
    campaign = await place.app.campaign(3)
    claims = [await place.claim(await place.request(campaign, index)) for index in range(3)]
    upkeep = ContractUpkeep(place.database, place.tables)
    table = '"Campaign"' if "Campaign" in place.app.contract else "mail_campaigns"
    async with place.database.transaction() as app:
        await app.execute(f"SELECT FROM {table} FOR UPDATE")
        for claim in claims[:2]:
            await asyncio.wait_for(place.end(claim), 8)
        assert await place.ours("SELECT count(*) FROM $.messages WHERE state = 'sent'") == 2
        assert await upkeep.tell_untold() == 0
        assert await place.app.counts(campaign) == (0, 0)
    assert await upkeep.tell_untold() == 2
    await place.end(claims[2])
    assert await place.app.counts(campaign) == (3, 0)
    assert place.broken == []


async def test_opens_and_clicks_reach_the_app_s_counts(drizzle_place: Place) -> None:
    place, campaign = drizzle_place, await drizzle_place.app.campaign(1)
    await place.send(await place.request(campaign))
    upkeep = ContractUpkeep(place.database, place.tables)
    assert await upkeep.tell_counts() == 0
    await place.raw.execute("UPDATE campaign_worker.campaign_counts SET unique_open_count = 1")
    assert await upkeep.tell_counts() == 1
    assert await place.ours("SELECT opened FROM $.contract_campaigns") == 1
    assert await upkeep.tell_counts() == 0


async def test_a_campaign_that_the_app_resumes_is_noticed_without_a_claim(place: Place) -> None:
    campaign = await place.app.campaign(1)
    request = await place.request(campaign)
    table, words = (
        ('"Campaign" SET "status" =', ("'PAUSED'", "'RUNNING'"))
        if "Campaign" in place.app.contract
        else ("mail_campaigns SET state =", ("'paused'", "'active'"))
    )
    await place.raw.execute(f"UPDATE {table} {words[0]}")
    assert isinstance(await place.claim(request), NotYet)
    await place.raw.execute(f"UPDATE {table} {words[1]}")
    await ContractUpkeep(place.database, place.tables).look_at_resting()
    assert await place.ours("SELECT status FROM $.campaigns") == "running"
    assert await place.ours("SELECT resumed_at IS NOT NULL FROM $.campaigns")


WRITE_SUPPRESSIONS = """
[write.suppressions]
query = '''
INSERT INTO "Suppression" ("email", "reason")
SELECT email, reason FROM unnest(:emails, :reasons) AS w (email, reason) ON CONFLICT DO NOTHING
'''
"""


@pytest.fixture
def telling_place(prisma_place: Place) -> Place:
    """Return a place whose contract says how suppressions are told."""
    contract = prisma_place.app.contract + WRITE_SUPPRESSIONS
    return Place(prisma_place.app, prisma_place.database, contract=contract)


async def test_addresses_that_are_suppressed_here_are_told_once(telling_place: Place) -> None:
    place = telling_place
    await place.raw.execute(
        "INSERT INTO campaign_worker.suppressions (address, reason)"
        " SELECT n || '@example.net', 'unsubscribe' FROM generate_series(1, 1200) n"
    )
    upkeep = ContractUpkeep(place.database, place.tables)
    assert await upkeep.tell_suppressions() == 1200
    assert await upkeep.tell_suppressions() == 0
    assert await place.raw.fetchval('SELECT count(*) FROM "Suppression"') == 1200


async def test_the_keeper_tells_what_is_broken_and_goes_on(prisma_place: Place) -> None:
    place, campaign = prisma_place, await prisma_place.app.campaign(1, status="PAUSED")
    assert isinstance(await place.claim(await place.request(campaign)), NotYet)
    await place.raw.execute('ALTER TABLE "Campaign" RENAME "name" TO "title"')
    keeper = ContractKeeper(ContractUpkeep(place.database, place.tables), place.broken.append)
    await keeper.tick()
    assert [one.statement for one in place.broken] == ["load.campaigns"]
    assert uuid.UUID(campaign.id)


async def test_an_address_that_the_app_refuses_keeps_no_other_from_being_told(
    telling_place: Place,
) -> None:
    place = telling_place
    await place.raw.execute(
        "ALTER TABLE \"Suppression\" ADD CHECK (\"email\" NOT IN ('7@a.example', '700@a.example'))"
    )
    await place.raw.execute(
        "INSERT INTO campaign_worker.suppressions (address, reason)"
        " SELECT n || '@a.example', 'unsubscribe' FROM generate_series(1, 1000) n"
    )
    upkeep = ContractUpkeep(place.database, place.tables)
    assert await upkeep.tell_suppressions() == 998
    assert await upkeep.tell_suppressions() == 0
    assert await place.raw.fetchval('SELECT count(*) FROM "Suppression"') == 998


async def test_counts_that_the_app_refuses_keep_no_other_from_being_told(
    drizzle_place: Place,
) -> None:
    place = drizzle_place
    campaigns = [await place.app.campaign(1) for _ in range(3)]
    for campaign in campaigns:
        await place.request(campaign)
    await place.raw.execute(
        f"ALTER TABLE mail_campaigns ADD CHECK (delivered < 1 OR id <> {campaigns[1].id})"
    )
    await place.raw.execute("UPDATE campaign_worker.campaign_counts SET sent_count = 1")
    assert await ContractUpkeep(place.database, place.tables).tell_counts() == 2
    assert [await place.app.counts(one) for one in campaigns] == [(1, 0), (0, 0), (1, 0)]


async def test_what_the_app_refuses_at_the_commit_keeps_no_other_from_being_told(
    telling_place: Place,
) -> None:
    place = telling_place
    campaigns = [await place.app.campaign(1) for _ in range(2)]
    for campaign in campaigns:
        await place.request(campaign)
    refuse = "CREATE CONSTRAINT TRIGGER late AFTER INSERT OR UPDATE ON"
    await place.raw.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'not now'; END $$;"
        f'{refuse} "Campaign" INITIALLY DEFERRED FOR EACH ROW'
        f""" WHEN (NEW."id" = '{campaigns[0].id}') EXECUTE FUNCTION refuse();"""
        f'{refuse} "Suppression" INITIALLY DEFERRED FOR EACH ROW'
        """ WHEN (NEW."email" = 'b@a.example') EXECUTE FUNCTION refuse();"""
        "UPDATE campaign_worker.campaign_counts SET sent_count = 1;"
        "INSERT INTO campaign_worker.suppressions (address, reason)"
        " SELECT unnest('{a@a.example,b@a.example,c@a.example}'::text[]), 'unsubscribe'"
    )
    upkeep = ContractUpkeep(place.database, place.tables)
    assert await upkeep.tell_counts() == 1
    assert [await place.app.counts(one) for one in campaigns] == [(0, 0), (1, 0)]
    assert await upkeep.tell_suppressions() == 2


async def test_counts_that_take_the_app_too_long_keep_no_other_from_being_told(
    drizzle_place: Place,
) -> None:
    place = drizzle_place
    campaigns = [await place.app.campaign(1) for _ in range(2)]
    for campaign in campaigns:
        await place.request(campaign)
    await place.raw.execute(
        DAWDLE
        + "CREATE TRIGGER slow BEFORE UPDATE ON mail_campaigns FOR EACH ROW"
        + f" WHEN (NEW.id = {campaigns[1].id}) EXECUTE FUNCTION dawdle()"
    )
    await place.raw.execute("UPDATE campaign_worker.campaign_counts SET sent_count = 1")
    assert await ContractUpkeep(place.database, place.tables).tell_counts() == 1
    assert [await place.app.counts(one) for one in campaigns] == [(1, 0), (0, 0)]


async def test_a_settle_waits_for_no_counts_whose_telling_waits_for_the_app(
    drizzle_place: Place,
) -> None:
    place, campaign = drizzle_place, await drizzle_place.app.campaign(1)
    claim = await place.claim(await place.request(campaign))
    await place.raw.execute("UPDATE campaign_worker.campaign_counts SET unique_open_count = 1")
    upkeep = ContractUpkeep(place.database, place.tables)

    async def waits() -> bool:
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        return bool(await place.raw.fetchval(f"{waiting} AND datname = current_database()"))

    async with place.raw.transaction():
        await place.raw.execute("SELECT FROM mail_campaigns FOR UPDATE")
        telling = asyncio.create_task(upkeep.tell_counts())
        await eventually(waits)
        await asyncio.wait_for(place.end(claim), 8)
        assert await telling == 0
    assert await upkeep.tell_untold() == 1
    assert await place.app.counts(campaign) == (1, 0)


async def test_a_campaign_that_cannot_be_read_keeps_no_other_from_going_on(
    prisma_place: Place,
) -> None:
    contract = prisma_place.app.contract.replace(
        'c."fromEmail" AS mail_from', 'c."fromEmail" AS mail_from, c."headers"'
    )
    await prisma_place.raw.execute('ALTER TABLE "Campaign" ADD "headers" jsonb')
    place = Place(prisma_place.app, prisma_place.database, contract=contract)
    for _ in range(3):
        campaign = await place.app.campaign(1, status="PAUSED")
        assert isinstance(await place.claim(await place.request(campaign)), NotYet)
    await place.raw.execute(
        """UPDATE "Campaign" SET "headers" = '["no object"]' WHERE "id" = $1""",
        uuid.UUID(campaign.id),
    )
    await place.raw.execute("""UPDATE "Campaign" SET "status" = 'RUNNING'""")
    await ContractUpkeep(place.database, place.tables).look_at_resting()
    running = "SELECT count(*) FROM $.campaigns WHERE status = 'running'"
    assert await place.ours(running) == 2


async def test_our_rows_wait_for_no_slow_statement_of_the_app(prisma_place: Place) -> None:
    place, campaign = prisma_place, await prisma_place.app.campaign(3)
    claims = [await place.claim(await place.request(campaign, index)) for index in range(3)]
    await place.raw.execute(
        DAWDLE + 'CREATE TRIGGER slow BEFORE UPDATE ON "Recipient" FOR EACH ROW'
        f""" WHEN (NEW."id" = '{campaign.recipients[1]}') EXECUTE FUNCTION dawdle()"""
    )
    await asyncio.wait_for(asyncio.gather(*map(place.end, claims)), 9)
    assert await place.ours("SELECT count(*) FROM $.messages WHERE state = 'sent'") == 3
    upkeep = ContractUpkeep(place.database, place.tables)
    assert await upkeep.tell_untold() == 2
    assert await place.app.statuses(campaign) == {"SENT": 2, "PENDING": 1}
    problem = "SELECT problem FROM $.contract_unwritten"
    assert "statement timeout" in await place.ours(problem)
    assert place.broken == []
