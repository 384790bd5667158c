"""An app's own tables decide about its mails, and are told what became of them, by its contract."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace
from typing import Any

import pytest

from campaign_worker.contract.asked import AppMail
from campaign_worker.delivery.claims import (
    CampaignContent,
    Claimed,
    Final,
    InlineContent,
    MessageState,
    Missing,
    NotYet,
    Unreadable,
)
from campaign_worker.delivery.requests import CampaignRequest, InlineMail, InlineRequest
from campaign_worker.delivery.settlements import (
    FailReason,
    MarkFailed,
    MarkInDoubt,
    MarkRetry,
    MarkSent,
    NextStep,
    Settled,
    Settlement,
)
from campaign_worker.errors import RowRefused
from campaign_worker.storage.contract_tables import AppTables
from campaign_worker.storage.recovery import PostgresRecovery, RecoveryOptions
from tests.integration.contract.apps import PRISMA_CONTRACT, Drizzle, Prisma
from tests.integration.contract.kit import Place
from tests.integration.storage.kit import opened

SENT = {Prisma: "SENT", Drizzle: "delivered"}
OPEN = {Prisma: "PENDING", Drizzle: "queued"}
FAILED = {Prisma: "FAILED", Drizzle: "undeliverable"}
SKIPPED = {Prisma: "SKIPPED", Drizzle: "skipped"}


def skipped(reason: str) -> Final:
    return Final(MessageState.SKIPPED, reason, None)


async def test_a_mail_is_made_of_the_app_s_rows_and_told_to_them(place: Place) -> None:
    campaign = await place.app.campaign(3)
    claim = await place.send(await place.request(campaign))
    assert isinstance(claim, Claimed)
    assert isinstance(claim.content, CampaignContent)
    assert claim.content.recipient_email == campaign.addresses[0]
    assert claim.content.campaign_name == "c"
    words = SENT[type(place.app)], OPEN[type(place.app)]
    assert await place.app.statuses(campaign) == {words[0]: 1, words[1]: 2}
    assert await place.app.counts(campaign) == (1, 0)


async def test_many_claims_at_once_import_each_row_once(place: Place) -> None:
    campaigns = [await place.app.campaign(20) for _ in range(2)]

    async def one(index: int) -> None:
        await place.send(await place.request(campaigns[index % 2], index // 2))

    await asyncio.gather(*(one(index) for index in range(40)))
    for campaign in campaigns:
        assert await place.app.statuses(campaign) == {SENT[type(place.app)]: 20}
        assert await place.app.counts(campaign) == (20, 0)
    assert await place.ours("SELECT count(*) FROM $.campaigns") == 2
    assert await place.ours("SELECT count(*) FROM $.recipients") == 40
    assert await place.ours("SELECT count(*) FROM $.templates") == 1
    assert await place.ours("SELECT count(*) FROM $.contract_unwritten") == 0


async def test_columns_that_are_nobody_else_s_are_variables_of_templates(
    prisma_place: Place, drizzle_place: Place
) -> None:
    prisma = await prisma_place.app.campaign(1)
    claim = await prisma_place.claim(await prisma_place.request(prisma))
    assert isinstance(claim, Claimed)
    assert isinstance(claim.content, CampaignContent)
    assert claim.content.recipient_data == {"firstName": "Ada"}
    drizzle = await drizzle_place.app.campaign(1)
    await drizzle_place.raw.execute("""UPDATE campaign_contacts SET attributes = '{"plan": 7}'""")
    claim = await drizzle_place.claim(await drizzle_place.request(drizzle))
    assert isinstance(claim, Claimed)
    assert isinstance(claim.content, CampaignContent)
    assert claim.content.recipient_data == {"plan": 7}
    assert claim.content.recipient_name == "Ada Lovelace"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ('UPDATE "Campaign" SET "status" = \'CANCELLED\'', "campaign_cancelled"),
        ('UPDATE "Recipient" SET "unsubscribedAt" = now()', "unsubscribed"),
        (
            'INSERT INTO "Suppression" SELECT upper("email"), \'Hard Bounce!\' FROM "Recipient"',
            "suppressed_hard_bounce",
        ),
        ('DELETE FROM "Recipient"', "gone_from_the_app"),
    ],
)
async def test_what_the_app_has_committed_before_the_claim_stops_the_mail(
    prisma_place: Place, change: str, reason: str
) -> None:
    campaign = await prisma_place.app.campaign(1)
    request = await prisma_place.request(campaign)
    await prisma_place.raw.execute(change)
    assert await prisma_place.claim(request) == skipped(reason)
    expected = {} if change.startswith("DELETE") else {"SKIPPED": 1}
    assert await prisma_place.app.statuses(campaign) == expected
    assert await prisma_place.app.counts(campaign) == (0, 0)


@pytest.mark.parametrize("word", ["paused", "a word that nobody knows"])
async def test_a_paused_campaign_waits_and_goes_on_when_the_app_says_so(
    drizzle_place: Place, word: str
) -> None:
    place, campaign = drizzle_place, await drizzle_place.app.campaign(1)
    request = await place.request(campaign)
    await place.raw.execute("UPDATE mail_campaigns SET state = $1", word[:20])
    waits = await place.claim(request)
    assert isinstance(waits, NotYet)
    assert waits.reason == "campaign_paused"
    await place.raw.execute("UPDATE mail_campaigns SET state = 'active'")
    await place.send(request)
    assert await place.app.statuses(campaign) == {"delivered": 1}


async def test_what_a_node_worker_has_sent_is_not_sent_again_and_not_told(place: Place) -> None:
    campaign = await place.app.campaign(2)
    requests = [await place.request(campaign, index) for index in range(2)]
    await by_node(place, campaign.recipients[0])
    assert await place.claim(requests[0]) == skipped("already_sent")
    await place.send(requests[1])
    assert await place.app.statuses(campaign) == {SENT[type(place.app)]: 2}
    assert await place.ours("SELECT already_sent FROM $.contract_campaigns") == 1
    assert await place.ours("SELECT skipped_count FROM $.campaign_counts") == 1


async def test_counts_that_a_node_worker_adds_to_are_added_to(prisma_place: Place) -> None:
    place, campaign = prisma_place, await prisma_place.app.campaign(3)
    await by_node(place, campaign.recipients[0])
    await place.raw.execute('UPDATE "Campaign" SET "sentCount" = "sentCount" + 1')
    for index in range(3):
        claim = await place.claim(await place.request(campaign, index))
        if isinstance(claim, Claimed):
            await place.end(claim)
    assert await place.app.counts(campaign) == (3, 0)


async def test_every_ending_has_the_app_s_word(place: Place) -> None:
    campaign = await place.app.campaign(5)
    endings = [
        MarkSent("<m@example.org>", "250"),
        MarkFailed(FailReason.REJECTED, "554", attempt_spent=True),
        MarkFailed(FailReason.HARD_BOUNCE, "550", True, (campaign.addresses[2],)),  # noqa: FBT003
        MarkInDoubt("<m@example.org>", "lost"),
        MarkRetry("451", 60.0),
    ]
    for index, ending in enumerate(endings):
        await place.end(await place.claim(await place.request(campaign, index)), ending)
    kind = type(place.app)
    if kind is Prisma:
        expected = {"SENT": 1, "FAILED": 1, "BOUNCED": 1, "PENDING": 2}
    else:
        expected = {"delivered": 1, "undeliverable": 2, "queued": 2}
    assert await place.app.statuses(campaign) == expected
    assert await place.app.counts(campaign) == (1, 2)


async def test_an_ending_that_somebody_else_wrote_is_told_by_the_next_who_looks(
    place: Place,
) -> None:
    campaign = await place.app.campaign(1)
    claim = await place.claim(await place.request(campaign))
    assert isinstance(claim, Claimed)
    await place.raw.execute(
        "UPDATE campaign_worker.messages SET state = 'failed', reason = 'quarantined',"
        " lease_until = NULL"
    )
    assert await place.ours("SELECT count(*) FROM $.contract_unwritten") == 1
    async with place.database.transaction() as connection:
        await place.tables.tell(connection, [claim.id])
    assert await place.app.statuses(campaign) == {FAILED[type(place.app)]: 1}


async def test_an_edited_mail_is_another_template_and_the_old_one_stays(place: Place) -> None:
    campaign = await place.app.campaign(2)
    first = await place.claim(await place.request(campaign, 0))
    await edit_subject(place, "Another")
    second = await place.claim(await place.request(campaign, 1))
    assert isinstance(first, Claimed)
    assert isinstance(second, Claimed)
    assert isinstance(second.content, CampaignContent)
    assert second.content.template.subject == "Another"
    assert await place.ours("SELECT count(*) FROM $.templates") == 2


async def test_an_address_that_stands_twice_in_a_campaign_gets_one_mail(
    prisma_place: Place,
) -> None:
    place, campaign = prisma_place, await prisma_place.app.campaign(2)
    await place.raw.execute('UPDATE "Recipient" SET "email" = \'same@example.net\'')
    first, second = [await place.request(campaign, index) for index in range(2)]
    assert first == second
    await place.send(first)
    assert await place.app.statuses(campaign) == {"SENT": 2}


async def test_what_is_not_in_the_app_is_missing(place: Place) -> None:
    campaign = await place.app.campaign(1)
    absent = str(uuid.uuid4()) if isinstance(place.app, Prisma) else "999999"
    for mail, field in [
        (AppMail(absent, campaign.recipients[0]), "campaign"),
        (AppMail(campaign.id, absent), "recipient"),
    ]:
        found = await place.tables.resolve(mail)
        assert isinstance(found, Missing)
        assert found.field == field


async def test_an_address_that_is_none_is_missing_and_harms_no_other(prisma_place: Place) -> None:
    place, campaign = prisma_place, await prisma_place.app.campaign(3)
    await place.raw.execute(
        'UPDATE "Recipient" SET "email" = $1 WHERE "email" = $2', "nobody", campaign.addresses[0]
    )
    found = await place.tables.resolve_all(
        [AppMail(campaign.id, recipient) for recipient in campaign.recipients]
    )
    assert [isinstance(one, Missing) for one in found] == [True, False, False]


async def test_whole_mails_are_told_by_their_key_and_stopped_by_the_app(
    drizzle_place: Place,
) -> None:
    place = drizzle_place
    keys = [
        str(await place.raw.fetchval("INSERT INTO outbox (state) VALUES ($1) RETURNING id", state))
        for state in ("new", "sent", "revoked")
    ]
    claims = [await place.claim(whole(key)) for key in keys]
    assert isinstance(claims[0], Claimed)
    assert isinstance(claims[0].content, InlineContent)
    assert claims[1:] == [skipped("already_sent"), skipped("cancelled_by_the_app")]
    await place.end(claims[0])
    rows = await place.raw.fetch("SELECT state, message_id FROM outbox ORDER BY id")
    assert [row["state"] for row in rows] == ["sent", "sent", "skipped"]
    assert rows[0]["message_id"] is not None


@pytest.mark.parametrize("scheduled_by", ["worker", "app"])
async def test_follow_ups_are_scheduled_by_whom_the_contract_names(
    prisma: Prisma, drizzle_place: Place, scheduled_by: str
) -> None:
    contract = f'{PRISMA_CONTRACT}\n[follow_ups]\nscheduled_by = "{scheduled_by}"\n'
    place = Place(prisma, drizzle_place.database, contract=contract)
    campaign = await prisma.campaign(1)
    await add_step(prisma, campaign.id)
    request = await place.request(campaign)
    claim = await place.claim(request)
    assert isinstance(claim, Claimed)
    await place.ledger.mark(claim.id, claim.token, "<m@example.org>")
    answer = await place.ledger.settle(
        Settlement(claim.id, claim.token, MarkSent("<m@example.org>", "250"))
    )
    assert isinstance(answer, Settled)
    if scheduled_by == "worker":
        assert isinstance(answer.next_step, NextStep)
        assert 7100 < answer.next_step.due_in_seconds <= 7200
        assert isinstance(await place.claim(await place.request(campaign, step=1)), NotYet)
    else:
        assert answer.next_step is None
        follow_up = await place.claim(await place.request(campaign, step=1))
        assert isinstance(follow_up, Claimed)


@pytest.mark.parametrize(
    ("scheduled_by", "expected"),
    [("worker", skipped("previous_step_not_sent")), ("app", Claimed)],
)
async def test_an_app_that_adds_follow_ups_itself_may_pass_over_one(
    prisma: Prisma, drizzle_place: Place, scheduled_by: str, expected: object
) -> None:
    contract = f'{PRISMA_CONTRACT}\n[follow_ups]\nscheduled_by = "{scheduled_by}"\n'
    place = Place(prisma, drizzle_place.database, contract=contract)
    campaign = await prisma.campaign(1)
    await place.send(await place.request(campaign))
    # One for those who have opened, say, and one for those who have not.
    for step in (1, 2):
        await add_step(prisma, campaign.id, step)
    claim = await place.claim(await place.request(campaign, step=2))
    assert expected in (claim, type(claim))


async def test_a_follow_up_is_found_by_its_own_id(prisma: Prisma, drizzle_place: Place) -> None:
    contract = PRISMA_CONTRACT.replace('step = "step"', 'step_id = "followUpId"')
    contract = contract.replace('AS campaign_id, f."step"', 'AS campaign_id, f."id", f."step"')
    place = Place(prisma, drizzle_place.database, contract=contract)
    campaign = await prisma.campaign(1)
    await add_step(prisma, campaign.id)
    key = str(await place.raw.fetchval('SELECT "id" FROM "FollowUp"'))
    mail = AppMail(campaign.id, campaign.recipients[0], step_id=key)
    request = await place.tables.resolve(mail)
    assert isinstance(request, CampaignRequest)
    assert request.step == 1
    assert (await place.tables.mails_of([request]))[request] == replace(mail, step=1)
    await place.raw.execute('UPDATE "FollowUp" SET "step" = 2')
    moved = await place.tables.resolve(mail)
    assert moved == replace(request, step=2), "the app has put another one before it"
    absent = await place.tables.resolve(replace(mail, step_id="none"))
    assert isinstance(absent, Missing)
    assert absent.field == "step_id"


@pytest.mark.parametrize("step", [1, 3], ids=["the next", "the next that is left"])
async def test_a_follow_up_of_a_mail_that_node_has_sent_goes_out(
    prisma_place: Place, step: int
) -> None:
    place, campaign = prisma_place, await prisma_place.app.campaign(1)
    await add_step(place.app, campaign.id, step)
    await by_node(place, campaign.recipients[0])
    claim = await place.claim(await place.request(campaign, step=step))
    assert isinstance(claim, Claimed)
    await place.end(claim)
    assert await place.app.statuses(campaign) == {"SENT": 1}


@pytest.mark.parametrize(
    ("said", "reason"), [("unsubscribed_at", "unsubscribed"), ("replied_at", "replied")]
)
async def test_what_a_recipient_told_us_stays_whatever_the_app_writes_about_them(
    prisma_place: Place, said: str, reason: str
) -> None:
    place, campaign = prisma_place, await prisma_place.app.campaign(1)
    await add_step(place.app, campaign.id)
    await by_node(place, campaign.recipients[0])
    request = await place.request(campaign, step=1)
    await place.raw.execute(f"UPDATE campaign_worker.recipients SET {said} = now()")
    await place.raw.execute('UPDATE "Recipient" SET "firstName" = \'Another\'')
    assert await place.claim(request) == skipped(reason)


async def test_a_reply_that_the_app_knows_of_stops_the_follow_up(
    prisma: Prisma, drizzle_place: Place
) -> None:
    told = "r.\"status\" = 'SENT' AS sent"
    contract = PRISMA_CONTRACT.replace(told, f"{told}, r.\"messageId\" = 're' AS replied")
    place = Place(prisma, drizzle_place.database, contract=contract)
    campaign = await prisma.campaign(1)
    await add_step(prisma, campaign.id)
    await by_node(place, campaign.recipients[0])
    request = await place.request(campaign, step=1)
    await place.raw.execute('UPDATE "Recipient" SET "messageId" = \'re\'')
    assert await place.claim(request) == skipped("replied")


async def test_an_address_that_another_recipient_has_is_not_taken_over(
    prisma_place: Place,
) -> None:
    place, campaign = prisma_place, await prisma_place.app.campaign(2)
    first, second = [await place.request(campaign, index) for index in range(2)]
    await place.raw.execute(
        'UPDATE "Recipient" SET "email" = $1, "firstName" = \'Another\' WHERE "email" = $2',
        campaign.addresses[0],
        campaign.addresses[1],
    )
    claims = [await place.claim(request) for request in (second, first)]
    emails = [
        one.content.recipient_email
        for one in claims
        if isinstance(one, Claimed) and isinstance(one.content, CampaignContent)
    ]
    assert emails == [campaign.addresses[1], campaign.addresses[0]]


async def test_an_address_that_is_suppressed_here_gets_nothing_whatever_the_app_says(
    prisma_place: Place,
) -> None:
    place, campaign = prisma_place, await prisma_place.app.campaign(1)
    await place.raw.execute(
        "INSERT INTO campaign_worker.suppressions (address, reason) VALUES ($1, 'complaint')",
        campaign.addresses[0],
    )
    request = await place.request(campaign)
    assert await place.claim(request) == skipped("suppressed_complaint")


async def test_a_follow_up_that_the_app_has_taken_away_is_not_sent(prisma_place: Place) -> None:
    place, campaign = prisma_place, await prisma_place.app.campaign(1)
    await add_step(place.app, campaign.id)
    await by_node(place, campaign.recipients[0])
    request = await place.request(campaign, step=1)
    await place.tables.make_rows([request], "campaign")
    await place.raw.execute('DELETE FROM "FollowUp"')
    assert await place.claim(request) == skipped("step_removed")


async def test_a_bounce_that_comes_after_the_send_is_told_as_well(prisma_place: Place) -> None:
    place, campaign = prisma_place, await prisma_place.app.campaign(1)
    claim = await place.send(await place.request(campaign))
    assert isinstance(claim, Claimed)
    assert await place.app.statuses(campaign) == {"SENT": 1}
    await place.raw.execute("UPDATE campaign_worker.messages SET bounced_at = now()")
    async with place.database.transaction() as connection:
        await place.tables.tell(connection, [claim.id])
    assert await place.app.statuses(campaign) == {"BOUNCED": 1}


async def test_what_the_app_has_sent_itself_is_no_skipped_mail_in_its_counts(
    prisma: Prisma, drizzle_place: Place
) -> None:
    contract = PRISMA_CONTRACT.replace("+ w.failed", "+ w.failed + w.skipped")
    contract = contract.replace(":failed_added)", ":failed_added, :skipped_added)")
    contract = contract.replace("w (id, sent, failed)", "w (id, sent, failed, skipped)")
    place = Place(prisma, drizzle_place.database, contract=contract)
    campaign = await prisma.campaign(2)
    await by_node(place, campaign.recipients[0])
    await place.raw.execute(
        'UPDATE "Recipient" SET "unsubscribedAt" = now() WHERE "email" = $1', campaign.addresses[1]
    )
    claims = [await place.claim(await place.request(campaign, index)) for index in range(2)]
    assert claims == [skipped("already_sent"), skipped("unsubscribed")]
    assert await prisma.counts(campaign) == (0, 1)
    assert await place.database.fetch("contract_stale_counts") == [], "nothing is left to tell"


async def test_a_campaign_of_the_app_is_completed_by_the_app_alone(place: Place) -> None:
    campaign = await place.app.campaign(1)
    await place.send(await place.request(campaign))
    options = RecoveryOptions(lease_seconds=0.0, overdue_seconds=0.0)
    assert await PostgresRecovery(place.database, options).complete_campaigns() == []


async def test_a_recipient_of_another_campaign_is_missing(place: Place) -> None:
    one, other = await place.app.campaign(1), await place.app.campaign(1)
    found = await place.tables.resolve(AppMail(one.id, other.recipients[0]))
    assert isinstance(found, Missing), found
    assert found.field == "recipient"


async def test_two_replicas_that_meet_a_campaign_at_once_make_one_of_it(place: Place) -> None:
    campaign = await place.app.campaign(10)
    others = [Place(place.app, place.database) for _ in range(4)]

    async def all_of(tables: AppTables) -> list[Any]:
        mails = [AppMail(campaign.id, recipient) for recipient in campaign.recipients]
        return await tables.resolve_all(mails)

    found = await asyncio.gather(*(all_of(one.tables) for one in others))
    assert all(one == found[0] for one in found)
    assert await place.ours("SELECT count(*) FROM $.campaigns") == 1


async def by_node(place: Place, recipient: str) -> None:
    if isinstance(place.app, Prisma):
        await place.raw.execute(
            'UPDATE "Recipient" SET "status" = \'SENT\' WHERE "id" = $1', uuid.UUID(recipient)
        )
    else:
        await place.raw.execute(
            "UPDATE campaign_contacts SET delivery_state = 'delivered' WHERE contact_id = $1",
            int(recipient),
        )


async def edit_subject(place: Place, subject: str) -> None:
    table = (
        '"Campaign" SET "subject"'
        if isinstance(place.app, Prisma)
        else ("mail_campaigns SET subject_line")
    )
    await place.raw.execute(f"UPDATE {table} = $1", subject)


async def add_step(app: Prisma, campaign: str, step: int = 1) -> None:
    await app.raw.execute(
        'INSERT INTO "FollowUp" ("campaignId", "step", "subject", "bodyHtml", "delayHours")'
        " VALUES ($1, $2, 'again', '<p>again</p>', 2)",
        *(uuid.UUID(campaign), step),
    )


def whole(key: str) -> InlineRequest:
    mail = InlineMail(("a@example.net",), "s", None, "t", None, None, (), (), {}, ())
    return InlineRequest(key, None, mail)


@pytest.mark.parametrize(
    ("step", "delay"), [("NULL", "1"), ("5000000000", "1"), ("1", "'NaN'::float8")]
)
async def test_a_follow_up_of_no_use_keeps_no_mail_of_its_campaign_back(
    prisma_place: Place, step: str, delay: str
) -> None:
    contract = prisma_place.app.contract.replace('f."delayHours" * 3600', delay)
    place = Place(prisma_place.app, prisma_place.database, contract=contract)
    campaign = await place.app.campaign(1)
    await place.raw.execute(
        'ALTER TABLE "FollowUp" ALTER "step" DROP NOT NULL, ALTER "step" TYPE bigint'
    )
    await place.raw.execute(
        'INSERT INTO "FollowUp" ("campaignId", "step", "subject", "bodyHtml", "delayHours")'
        f" VALUES ($1, {step}, 's', 'b', 1)",
        uuid.UUID(campaign.id),
    )
    assert isinstance(await place.send(await place.request(campaign)), Claimed)


@pytest.mark.parametrize("data", ["9" * 5000, "[" * 3000 + "]" * 3000], ids=["digits", "depth"])
async def test_data_of_the_app_that_we_cannot_read_are_one_mail_s_fault(
    drizzle_place: Place, data: str
) -> None:
    place, campaign = drizzle_place, await drizzle_place.app.campaign(2)
    await place.raw.execute(
        "UPDATE campaign_contacts SET attributes = $1::jsonb WHERE contact_id = $2",
        f'{{"a": {data}}}',
        int(campaign.recipients[0]),
    )
    requests = await asyncio.gather(*(place.request(campaign, n) for n in range(2)))
    claims = await asyncio.gather(*map(place.claim, requests))
    kinds = [type(one.content) for one in claims if isinstance(one, Claimed)]
    assert kinds == [Unreadable, CampaignContent]


async def test_data_of_the_app_that_are_beyond_a_limit_of_postgres_are_one_mail_s_fault(
    drizzle: Drizzle, database_url: str
) -> None:
    campaign = await drizzle.campaign(2)
    await drizzle.raw.execute(
        "UPDATE campaign_contacts SET attributes = $1::jsonb WHERE contact_id = $2",
        f'{{"a": {"[" * 3000 + "]" * 3000}}}',
        int(campaign.recipients[0]),
    )
    # As for an app whose own login may nest deeper.
    name = await drizzle.raw.fetchval("SELECT current_database()")
    await drizzle.raw.execute(f"ALTER DATABASE {name} SET max_stack_depth = '300kB'")
    async with opened(database_url) as database:
        place = Place(drizzle, database)
        found = await asyncio.gather(
            *(place.request(campaign, index) for index in range(2)), return_exceptions=True
        )
    assert [type(one) for one in found] == [RowRefused, CampaignRequest]


async def test_an_address_is_suppressed_whatever_spelling_of_its_domain_the_app_keeps(
    prisma_place: Place,
) -> None:
    place, campaign = prisma_place, await prisma_place.app.campaign(2)
    for index, (spelled, kept) in enumerate(
        [
            ("Ann@Bücher.example", "ann@bücher.example"),
            ("Ann@bücher.example", "ann@xn--bcher-kva.example"),
        ]
    ):
        await place.raw.execute(
            'UPDATE "Recipient" SET "email" = $1 WHERE "email" = $2',
            spelled,
            campaign.addresses[index],
        )
        await place.raw.execute('DELETE FROM "Suppression"')
        await place.raw.execute("INSERT INTO \"Suppression\" VALUES ($1, 'asked')", kept)
        assert await place.claim(await place.request(campaign, index)) == skipped(
            "suppressed_asked"
        )


async def test_a_number_that_json_does_not_know_is_a_text_in_templates(
    drizzle: Drizzle, drizzle_place: Place
) -> None:
    strange = "'NaN'::float8 AS score, ARRAY[1.5, '-Infinity'::float8] AS scores"
    contract = drizzle.contract.replace(
        "cc.attributes AS data", f"cc.attributes AS data, {strange}"
    )
    place = Place(drizzle, drizzle_place.database, contract=contract)
    claim = await place.claim(await place.request(await drizzle.campaign(1)))
    assert isinstance(claim, Claimed)
    assert isinstance(claim.content, CampaignContent)
    data = claim.content.recipient_data
    assert (data["score"], data["scores"]) == ("NaN", [1.5, "-Infinity"])


async def test_a_campaign_whose_headers_are_a_null_of_json_has_none(prisma_place: Place) -> None:
    contract = prisma_place.app.contract.replace(
        'c."fromEmail" AS mail_from', 'c."fromEmail" AS mail_from, c."headers"'
    )
    await prisma_place.raw.execute('ALTER TABLE "Campaign" ADD "headers" jsonb DEFAULT \'null\'')
    place = Place(prisma_place.app, prisma_place.database, contract=contract)
    claim = await place.claim(await place.request(await place.app.campaign(1)))
    assert isinstance(claim, Claimed)
    assert isinstance(claim.content, CampaignContent)
    assert claim.content.headers == {}
