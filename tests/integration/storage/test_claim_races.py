"""Claims against whoever changes the same rows at the same moment, and against lost replies."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from typing import TYPE_CHECKING

import asyncpg
import pytest

from campaign_worker.delivery.claims import Busy, Claim, Claimed, Final, MessageState, NotYet
from campaign_worker.delivery.settlements import (
    FailReason,
    MarkFailed,
    MarkReleased,
    MarkSent,
    Settled,
    Settlement,
)
from campaign_worker.errors import DatabaseAway
from campaign_worker.mail.compose import normalize
from campaign_worker.storage.claim import Claimer
from campaign_worker.storage.claim_items import ClaimItem
from campaign_worker.storage.ledger import PostgresLedger
from shutdown import Deadline
from tests.integration.storage.kit import (
    JOB,
    LEASE_SECONDS,
    MESSAGE_ID,
    World,
    accepted,
    inline,
    ledger_over,
    opened,
    world_of,
)
from tests.support import TcpProxy, eventually

if TYPE_CHECKING:
    from campaign_worker.delivery.requests import CampaignRequest

UNSUBSCRIBED = Final(MessageState.SKIPPED, "unsubscribed", None)


async def test_an_unsubscribe_that_commits_while_a_claim_waits_is_seen(world: World) -> None:
    request = (await world.campaign()).request()
    async with world.raw.transaction():
        # The app makes the row itself, so the claim waits for it at its own insert.
        await world.execute(
            "INSERT INTO $messages (campaign_id, recipient_id) VALUES ($1, $2)",
            request.campaign_id,
            request.recipient_id,
        )
        claiming = asyncio.create_task(world.claim(request))
        await eventually(world.somebody_waits_for_a_lock)
        await world.execute("UPDATE $recipients SET unsubscribed_at = now()")
    assert await claiming == UNSUBSCRIBED


async def test_an_unsubscribe_that_holds_the_row_makes_the_claim_busy_and_is_then_seen(
    world: World,
) -> None:
    request = (await world.campaign()).request()
    await world.settle(await world.claimed(request), MarkReleased("interrupted"))
    async with world.raw.transaction():
        await world.execute("SELECT 1 FROM $messages FOR UPDATE")
        await world.execute("UPDATE $recipients SET unsubscribed_at = now()")
        assert await world.claim(request) == Busy(1.0)
    assert await world.claim(request) == UNSUBSCRIBED


async def test_a_row_that_somebody_holds_is_busy_and_not_waited_for(world: World) -> None:
    campaign = await world.campaign(2)
    await world.campaigns.fan_out(campaign.id, "campaign")
    held = campaign.request(0)
    async with world.raw.transaction():
        await world.execute(
            "SELECT 1 FROM $messages WHERE recipient_id = $1 FOR UPDATE", held.recipient_id
        )
        one, other = await asyncio.gather(world.claim(held), world.claim(campaign.request(1)))
    assert one == Busy(1.0)
    assert isinstance(other, Claimed)


async def test_a_recipient_who_is_just_unsubscribing_is_busy_not_waited_for_and_then_seen(
    world: World,
) -> None:
    campaign = await world.campaign(2)
    await world.campaigns.fan_out(campaign.id, "campaign")
    leaving = campaign.request(0)
    async with world.raw.transaction():
        # The message's row is free: an app knows nothing of it.
        await world.execute(
            "UPDATE $recipients SET unsubscribed_at = now() WHERE id = $1", leaving.recipient_id
        )
        one, other = await asyncio.gather(world.claim(leaving), world.claim(campaign.request(1)))
    assert one == Busy(1.0)
    assert isinstance(other, Claimed)
    assert await world.claim(leaving) == UNSUBSCRIBED


async def test_a_lease_is_believed_from_before_its_claim_was_asked_for(world: World) -> None:
    request = (await world.campaign()).request()
    async with world.raw.transaction():
        await world.execute(
            "INSERT INTO $messages (campaign_id, recipient_id) VALUES ($1, $2)",
            request.campaign_id,
            request.recipient_id,
        )
        claiming = asyncio.create_task(world.claim(request))
        await eventually(world.somebody_waits_for_a_lock)
        asked_before = time.monotonic()
    claim = await claiming
    assert isinstance(claim, Claimed)
    assert claim.confirmed_at < asked_before


async def test_what_commits_between_the_lock_and_the_guards_is_seen(world: World) -> None:
    paused, unsubscribed = await world.campaign(), await world.campaign()
    for campaign in (paused, unsubscribed):
        await world.campaigns.fan_out(campaign.id, "campaign")
    async with world.raw.transaction():
        # Between locking messages and reading guards a claim locks recipients: there it waits.
        await world.execute("LOCK TABLE $recipients IN EXCLUSIVE MODE")
        claiming = asyncio.gather(
            world.claim(paused.request()), world.claim(unsubscribed.request())
        )
        await eventually(world.somebody_waits_for_a_lock)
        await world.execute("UPDATE $campaigns SET status = 'paused' WHERE id = $1", paused.id)
        await world.execute(
            "UPDATE $recipients SET unsubscribed_at = now() WHERE campaign_id = $1", unsubscribed.id
        )
    waiting, gone = await claiming
    assert isinstance(waiting, NotYet), waiting
    assert waiting.reason == "campaign_paused"
    assert gone == UNSUBSCRIBED


async def test_closing_waits_for_no_claim_beyond_its_deadline(world: World) -> None:
    request = (await world.campaign()).request()
    async with world.raw.transaction():
        await world.execute(
            "INSERT INTO $messages (campaign_id, recipient_id) VALUES ($1, $2)",
            request.campaign_id,
            request.recipient_id,
        )
        claiming = asyncio.create_task(world.claim(request))
        await eventually(world.somebody_waits_for_a_lock)
        await world.ledger.close(Deadline.after(0.05))
        assert not claiming.done()
    assert isinstance(await claiming, Claimed)


async def test_one_row_is_claimed_by_one_of_many(database_url: str) -> None:
    async with world_of(database_url) as world, opened(database_url) as elsewhere:
        campaign = await world.campaign(10)
        await world.campaigns.fan_out(campaign.id, "campaign")
        ledgers = [world.ledger, ledger_over(elsewhere)]
        answers = await asyncio.gather(
            *(ledgers[n % 2].claim(campaign.request(n // 6), f"t{n}", JOB) for n in range(60))
        )
        for index in range(10):
            few = answers[index * 6 : index * 6 + 6]
            assert sum(isinstance(one, Claimed) for one in few) == 1
            assert sum(isinstance(one, Busy) for one in few) == 5
        for ledger in ledgers:
            await ledger._claims.idle()


def claimer_of(world: World) -> Claimer:
    return Claimer(world.database, lease_seconds=LEASE_SECONDS, normalize=normalize)


async def test_a_claim_that_is_repeated_with_its_own_token_is_had_again(world: World) -> None:
    request = (await world.campaign()).request()
    claimer, item = claimer_of(world), ClaimItem(request, "mine", JOB)
    (first,) = await claimer.execute([item])
    await world.execute("UPDATE $messages SET lease_until = now() + interval '1 s'")
    (second,) = await claimer.execute([item])
    (other,) = await claimer.execute([ClaimItem(request, "other", JOB)])
    assert isinstance(first, Claimed)
    assert isinstance(second, Claimed)
    assert (second.id, second.attempts) == (first.id, 0)
    # The owner believes in a whole lease from now, so it is one.
    assert isinstance(other, Busy)
    assert other.seconds > LEASE_SECONDS / 2


async def test_a_repeated_claim_sees_what_has_changed_meanwhile(world: World) -> None:
    campaign = await world.campaign(2)
    claimer = claimer_of(world)
    items = [ClaimItem(campaign.request(n), f"t{n}", JOB) for n in (0, 1)]
    await claimer.execute(items)
    await world.execute(
        "UPDATE $recipients SET unsubscribed_at = now() WHERE id = $1", campaign.recipients[0]
    )
    await world.execute("UPDATE $campaigns SET status = 'paused'")
    gone, waiting = await claimer.execute(items)
    assert gone == UNSUBSCRIBED
    assert isinstance(waiting, NotYet)
    assert await world.state(campaign.request(0)) == "skipped"
    assert await world.state(campaign.request(1)) == "scheduled"
    assert await world.campaigns.untrue_counts() == []


async def test_a_claim_whose_commit_went_unanswered_is_had_again(database_url: str) -> None:
    async with TcpProxy(database_url) as proxy, world_of(database_url) as world:
        async with opened(proxy.url, pool_size=1) as database:
            request = (await world.campaign()).request()
            claimer = Claimer(database, lease_seconds=LEASE_SECONDS, normalize=normalize)
            item = ClaimItem(request, "mine", JOB)
            await _execute_and_lose_the_commits_reply(proxy, claimer, item, world)
            (again,) = await claimer.execute([item])
        assert isinstance(again, Claimed)
        assert await world.value("SELECT count(*) FROM $messages") == 1


async def _execute_and_lose_the_commits_reply(
    proxy: TcpProxy, claimer: Claimer, item: ClaimItem, world: World
) -> None:
    proxy.hold_replies()
    executing = asyncio.create_task(claimer.execute([item]))

    async def answered_until_committed() -> bool:
        if await world.value("SELECT count(*) FROM $messages WHERE state = 'sending'"):
            return True
        if proxy.held_reply.is_set():
            proxy.pass_all()
            proxy.hold_replies()
        return False

    await eventually(answered_until_committed)
    proxy.cut()
    proxy.pass_all()
    with pytest.raises(DatabaseAway):
        await executing


async def test_a_lost_reply_costs_the_ledgers_caller_no_lease(database_url: str) -> None:
    """The pipeline asks once: the ledger itself finds its claim again on another connection."""
    async with (
        TcpProxy(database_url) as proxy,
        world_of(database_url) as world,
        opened(proxy.url, pool_size=1) as database,
    ):
        ledger = ledger_over(database)
        request = (await world.campaign()).request()
        claim = await _claim_and_lose_the_reply(proxy, ledger, request, world)
        assert isinstance(claim, Claimed)
        await ledger._claims.idle()


async def _claim_and_lose_the_reply(
    proxy: TcpProxy, ledger: PostgresLedger, request: CampaignRequest, world: World
) -> Claim:
    proxy.hold_replies()
    claiming = asyncio.ensure_future(ledger.claim(request, "mine", JOB))

    async def committed() -> bool:
        if await world.value("SELECT count(*) FROM $messages WHERE state = 'sending'"):
            return True
        if proxy.held_reply.is_set():
            proxy.pass_all()
            proxy.hold_replies()
        return False

    await eventually(committed)
    proxy.cut()
    proxy.pass_all()
    claim: Claim = await claiming
    return claim


async def test_opposite_orders_never_reach_a_caller_as_deadlocks(database_url: str) -> None:
    """Two workers claim, settle and skip the same campaigns, in opposite orders, over and over."""
    async with world_of(database_url) as world, opened(database_url) as elsewhere:
        campaigns = [await world.campaign(15) for _ in range(4)]
        for campaign in campaigns:
            await world.follow_up(campaign)
        await world.execute("UPDATE $recipients SET unsubscribed_at = now() WHERE id % 5 = 0")
        requests = [one.request(n, step) for one in campaigns for n in range(15) for step in (0, 1)]
        other = ledger_over(elsewhere)
        await asyncio.gather(
            *(_work(world.ledger, one, n) for n, one in enumerate(requests)),
            *(_work(other, one, n) for n, one in enumerate(reversed(requests))),
            _disturb(world, campaigns[0].id),
        )
        assert await world.campaigns.untrue_counts() == []
        for ledger in (world.ledger, other):
            await ledger._settles.idle()


async def _work(ledger: PostgresLedger, request: CampaignRequest, number: int) -> None:
    for turn in range(3):
        claim = await ledger.claim(request, f"{id(ledger)}-{number}-{turn}", JOB)
        if not isinstance(claim, Claimed):
            continue
        assert await ledger.mark(claim.id, claim.token, MESSAGE_ID)
        ending: MarkSent | MarkFailed = accepted(claim)
        if number % 4 == 0:
            suppress = tuple(f"{n}@example.org" for n in random.sample(range(6), 3))
            ending = MarkFailed(FailReason.HARD_BOUNCE, "", attempt_spent=True, suppress=suppress)
        answer = await ledger.settle(Settlement(claim.id, claim.token, ending))
        assert isinstance(answer, Settled)


async def _disturb(world: World, campaign: int) -> None:
    """Play the app: changes that lock rows and counts in an order of their own."""
    for _ in range(10):
        # The app is the one that loses here; that is its own to repeat.
        with contextlib.suppress(asyncpg.DeadlockDetectedError):
            async with world.raw.transaction():
                await world.execute(
                    "UPDATE $recipients SET unsubscribed_at = now() WHERE campaign_id = $1",
                    campaign,
                )
                await world.execute(
                    "INSERT INTO $tracking_events (id, message_id, kind, class, machine)"
                    " SELECT gen_random_uuid(), id, 'open', 'human', false"
                    " FROM $messages WHERE state = 'sent' ORDER BY id DESC LIMIT 20"
                )


async def test_two_self_contained_mails_with_keys_in_opposite_order(database_url: str) -> None:
    async with world_of(database_url) as world, opened(database_url) as elsewhere:
        items = [ClaimItem(inline(f"k{n}"), f"t{n}", JOB) for n in range(30)]
        one, other = (
            claimer_of(world),
            Claimer(elsewhere, lease_seconds=LEASE_SECONDS, normalize=normalize),
        )
        first, second = await asyncio.gather(one.execute(items), other.execute(items[::-1]))
        won = [isinstance(claim, Claimed) for claim in first]
        lost = [isinstance(claim, Claimed) for claim in second[::-1]]
        # The same tokens: whoever came second finds its own claim, or a row that is held.
        assert all(a or b for a, b in zip(won, lost, strict=True))
