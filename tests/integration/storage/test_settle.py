"""Mark, renew and settle: what the owner of a token may write, and what else is written with it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from campaign_worker.delivery.claims import NotYet
from campaign_worker.delivery.model import Refusal
from campaign_worker.delivery.settlements import (
    FailReason,
    MarkFailed,
    MarkInDoubt,
    MarkReleased,
    MarkRetry,
    MarkSent,
    Settled,
    Settlement,
    Superseded,
)
from campaign_worker.errors import DatabaseAway, RowRefused
from campaign_worker.mail.compose import normalize
from campaign_worker.storage.settle import Settler
from tests.integration.storage.kit import (
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
    from campaign_worker.delivery.claims import Claimed

IN_DOUBT = MarkInDoubt("<a@b>", "no answer")


async def expire(world: World) -> None:
    await world.execute("UPDATE $messages SET lease_until = now() - interval '1 s'")


async def test_the_mark_is_durable_renews_the_lease_and_may_be_repeated(world: World) -> None:
    claim = await world.claimed((await world.campaign()).request())
    await world.execute("UPDATE $messages SET lease_until = now() + interval '1 s'")
    assert await world.ledger.mark(claim.id, claim.token, MESSAGE_ID)
    first = await world.row(claim)
    assert first["marked_at"] is not None
    assert first["message_id"] == MESSAGE_ID
    left = (first["lease_until"] - first["marked_at"]).total_seconds()
    assert left == pytest.approx(LEASE_SECONDS, abs=0.1)
    assert await world.ledger.mark(claim.id, claim.token, MESSAGE_ID)
    assert (await world.row(claim))["marked_at"] == first["marked_at"]


async def test_a_lost_claim_marks_nothing(world: World) -> None:
    claim = await world.claimed((await world.campaign()).request())
    assert not await world.ledger.mark(claim.id, "somebody else's", MESSAGE_ID)
    await expire(world)
    assert not await world.ledger.mark(claim.id, claim.token, MESSAGE_ID)
    assert (await world.row(claim))["marked_at"] is None
    await world.settle(claim, MarkReleased("interrupted"))
    assert not await world.ledger.mark(claim.id, claim.token, MESSAGE_ID)


async def test_two_tokens_for_one_row_in_a_batch_are_told_apart(world: World) -> None:
    claim = await world.claimed((await world.campaign()).request())
    old, new = await asyncio.gather(
        world.ledger.mark(claim.id, "before", MESSAGE_ID),
        world.ledger.mark(claim.id, claim.token, MESSAGE_ID),
    )
    assert (old, new) == (False, True)
    bounced = MarkFailed(FailReason.HARD_BOUNCE, "", attempt_spent=True, suppress=("a@b.example",))
    late, own = await asyncio.gather(
        world.ledger.settle(Settlement(claim.id, "before", bounced)),
        world.settle(claim, accepted(claim)),
    )
    assert (late, own) == (Superseded("sent"), Settled())
    assert await world.value("SELECT count(*) FROM $suppressions") == 0


async def test_only_own_leases_are_renewed(world: World) -> None:
    campaign = await world.campaign(3)
    mine, other, done = [await world.claimed(campaign.request(n)) for n in range(3)]
    await expire(world)
    await world.settle(done, MarkReleased("interrupted"))
    owned = [(mine.id, mine.token), (other.id, "not its token"), (done.id, done.token)]
    assert await world.ledger.renew(owned) == {mine.id}
    assert await world.ledger.mark(mine.id, mine.token, MESSAGE_ID)
    assert not await world.ledger.mark(other.id, other.token, MESSAGE_ID)


async def test_a_row_that_was_put_in_doubt_has_no_lease_to_renew(world: World) -> None:
    claim = await world.marked((await world.campaign()).request())
    await expire(world)
    assert (await world.recovery().resolve_expired()).in_doubt == 1
    assert await world.ledger.renew([(claim.id, claim.token)]) == set()
    assert (await world.row(claim))["lease_until"] is None


ENDINGS: list[tuple[Any, str, dict[str, Any], dict[str, int]]] = [
    (
        MarkSent("<m@x>", "250 ok"), "sent",
        {"message_id": "<m@x>", "detail": "250 ok", "reason": None, "attempts": 0}, {"sent": 1},
    ),
    (
        MarkFailed(FailReason.HARD_BOUNCE, "550", attempt_spent=True, suppress=("A@b.example",)),
        "failed", {"reason": "hard_bounce", "attempts": 1}, {"failed": 1, "bounced": 1},
    ),
    (
        MarkFailed(FailReason.RENDER_ERROR, "subject: x", attempt_spent=False), "failed",
        {"reason": "render_error", "detail": "subject: x", "attempts": 0}, {"failed": 1},
    ),
    (MarkRetry("451", 90), "scheduled", {"detail": "451", "attempts": 1, "token": None}, {}),
    (MarkReleased("stop"), "scheduled", {"attempts": 0, "token": None, "marked_at": None}, {}),
    (
        MarkInDoubt("<m@x>", "lost"), "in_doubt",
        {"message_id": "<m@x>", "reason": "no_answer_to_final_dot"}, {"in_doubt": 1},
    ),
    (
        MarkInDoubt("<m@x>", "lost", resend=True), "scheduled",
        {"attempts": 1, "token": None, "reason": None, "marked_at": None}, {},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("ending", "state", "columns", "counts"), ENDINGS)
async def test_each_ending_is_written_whole(
    world: World, ending: Any, state: str, columns: dict[str, Any], counts: dict[str, int]
) -> None:
    campaign = await world.campaign()
    claim = await world.marked(campaign.request())
    assert await world.settle(claim, ending) == Settled()
    row = await world.row(claim)
    assert (row["state"], row["lease_until"]) == (state, None)
    assert {name: row[name] for name in columns} == columns
    assert (row["settled_at"] is None) == (state == "scheduled")
    assert await world.counts(campaign) == counts
    assert await world.campaigns.untrue_counts() == []


async def test_a_retry_is_due_by_the_clock_of_postgres(world: World) -> None:
    request = (await world.campaign()).request()
    await world.settle(await world.claimed(request), MarkRetry("451", 90))
    due_in = await world.value(
        "SELECT extract(epoch FROM due_at - clock_timestamp())::float8 FROM $messages"
    )
    assert due_in == pytest.approx(90, abs=1)
    assert isinstance(await world.claim(request), NotYet)


@pytest.mark.parametrize(
    "ending",
    [
        MarkSent("<m@x>", "250 ok"),
        IN_DOUBT,
        MarkFailed(FailReason.REJECTED, "", attempt_spent=True),
    ],
)
async def test_a_settle_whose_reply_was_lost_is_content_when_repeated(
    world: World, ending: Any
) -> None:
    campaign = await world.campaign()
    claim = await world.marked(campaign.request())
    await world.settle(claim, ending)
    before = await world.row(claim)
    assert await world.settle(claim, ending) == Settled()
    assert await world.row(claim) == before
    assert sum((await world.counts(campaign)).values()) == 1


async def test_somebody_elses_settle_changes_nothing(world: World) -> None:
    claim = await world.marked((await world.campaign()).request())
    other = Settlement(claim.id, "other", accepted(claim))
    assert await world.ledger.settle(other) == Superseded("sending")
    assert await world.ledger.settle(Settlement(999_999, "x", IN_DOUBT)) == Superseded("absent")
    await world.settle(claim, accepted(claim))
    bounced = MarkFailed(FailReason.REJECTED, "", attempt_spent=True)
    assert await world.ledger.settle(Settlement(claim.id, "other", bounced)) == Superseded("sent")
    assert await world.settle(claim, bounced) == Superseded("sent")
    assert await world.state(claim) == "sent"


async def test_a_row_in_doubt_takes_a_late_answer_of_its_last_owner_only(world: World) -> None:
    campaign = await world.campaign()
    claim = await world.marked(campaign.request())
    await expire(world)
    assert (await world.recovery().resolve_expired()).in_doubt == 1
    assert await world.counts(campaign) == {"in_doubt": 1}
    late = Settlement(claim.id, "other", accepted(claim))
    assert await world.ledger.settle(late) == Superseded("in_doubt")
    assert await world.settle(claim, accepted(claim)) == Settled()
    assert await world.counts(campaign) == {"sent": 1}
    assert await world.value("SELECT count(*) FROM $usage_events") == 1


async def test_a_late_release_of_a_row_in_doubt_schedules_it(world: World) -> None:
    claim = await world.marked((await world.campaign()).request())
    await expire(world)
    await world.recovery().resolve_expired()
    # The owner knows that it wrote nothing after the mark.
    assert await world.settle(claim, MarkReleased("interrupted")) == Settled()
    assert await world.state(claim) == "scheduled"


async def test_usage_is_recorded_once_per_accepted_mail(world: World) -> None:
    campaign = await world.campaign(2)
    sent = await world.sent(campaign.request(0))
    await world.settle(sent, accepted(sent))
    await world.settle(await world.marked(campaign.request(1)), IN_DOUBT)
    rows = await world.rows("SELECT idempotency_key, message_id FROM $usage_events")
    assert rows == [{"idempotency_key": f"message-{sent.id}", "message_id": sent.id}]


async def test_the_next_steps_row_is_made_once_and_told_each_time(world: World) -> None:
    campaign = await world.campaign()
    await world.follow_up(campaign, delay_seconds=3600)
    claim = await world.marked(campaign.request())
    answers = [await world.settle(claim, accepted(claim)) for _ in range(2)]
    for answer in answers:
        assert isinstance(answer, Settled)
        step = answer.next_step
        assert step is not None
        assert (step.campaign_id, step.recipient_id, step.step) == (
            campaign.id, campaign.recipients[0], 1,
        )  # fmt: skip
        assert step.due_in_seconds == pytest.approx(3600, abs=2)
    row = await world.row(campaign.request(step=1))
    assert (row["state"], row["queue"], row["job_id"]) == ("scheduled", "campaign", None)
    await world.execute("UPDATE $messages SET due_at = now() WHERE step = 1")
    await world.sent(campaign.request(step=1))
    # What has gone out is no next step any more.
    assert await world.settle(claim, accepted(claim)) == Settled()


async def test_a_follow_up_keeps_its_distance_although_its_job_came_early(world: World) -> None:
    campaign = await world.campaign()
    await world.follow_up(campaign, delay_seconds=3600)
    # The app added the follow-up's job by itself; the first mail was held up.
    early = await world.claim(campaign.request(step=1))
    assert isinstance(early, NotYet)
    await world.sent(campaign.request())
    late = await world.claim(campaign.request(step=1))
    assert isinstance(late, NotYet), late
    assert late.seconds == pytest.approx(3600, abs=2)


async def test_a_follow_up_that_is_due_later_than_its_distance_stays_so(world: World) -> None:
    campaign = await world.campaign()
    await world.follow_up(campaign, delay_seconds=3600)
    assert isinstance(await world.claim(campaign.request(step=1)), NotYet)
    await world.execute("UPDATE $messages SET due_at = now() + interval '2 hours' WHERE step = 1")
    await world.sent(campaign.request())
    late = await world.claim(campaign.request(step=1))
    assert isinstance(late, NotYet), late
    assert late.seconds == pytest.approx(7200, abs=5)


async def test_hard_bounces_are_suppressed_in_the_form_that_claims_look_for(world: World) -> None:
    campaign = await world.campaign(2)
    one, other = [await world.marked(campaign.request(n)) for n in (0, 1)]
    addresses = ("Gone@BÜCHER.example", "gone@xn--bcher-kva.example")
    gone = MarkFailed(FailReason.HARD_BOUNCE, "550\x00 no", attempt_spent=True, suppress=addresses)
    await world.settle(one, gone)
    refused = (Refusal("Two@example.com", 550, "5.1.1", "no \ud800 such"),)
    await world.settle(other, MarkSent("<m@x>", "250", refused))
    rows = await world.rows("SELECT * FROM $suppressions ORDER BY address")
    assert [(row["address"], row["reason"], row["message_id"], row["detail"]) for row in rows] == [
        ("gone@xn--bcher-kva.example", "hard_bounce", one.id, "550 no"),
        ("two@example.com", "hard_bounce", other.id, "no ? such"),
    ]


async def test_a_rejection_suppresses_nobody(world: World) -> None:
    claim = await world.marked((await world.campaign()).request())
    rejected = MarkFailed(FailReason.REJECTED, "", attempt_spent=True, suppress=("a@example.com",))
    await world.settle(claim, rejected)
    assert await world.value("SELECT count(*) FROM $suppressions") == 0


async def fifty(world: World) -> list[Claimed]:
    campaign = await world.campaign(50)
    await world.follow_up(campaign, delay_seconds=60)
    return list(await asyncio.gather(*(world.marked(campaign.request(n)) for n in range(50))))


async def test_fifty_accepted_mails_are_fifty_sent_rows_whatever_a_server_said(
    world: World,
) -> None:
    claims = await fifty(world)
    replies = {7: "250 \x00ok", 8: "250 \ud800\udfff", 9: "x" * 10_000, 10: "\x00" * 600 + "y"}
    answers = await asyncio.gather(
        *(
            world.settle(claim, accepted(claim, replies.get(n, "250 ok")))
            for n, claim in enumerate(claims)
        )
    )
    assert all(isinstance(answer, Settled) and answer.next_step for answer in answers)
    assert await world.value("SELECT count(*) FROM $messages WHERE state = 'sent'") == 50
    assert await world.value("SELECT count(*) FROM $usage_events") == 50
    assert (await world.row(claims[7]))["detail"] == "250 ok"
    assert len((await world.row(claims[9]))["detail"]) == 500
    assert await world.campaigns.untrue_counts() == []


@pytest.mark.parametrize("seconds", [float("inf"), float("nan"), 1e300, 10**400])
async def test_one_value_that_postgres_refuses_fails_alone(world: World, seconds: float) -> None:
    claims = await fifty(world)
    endings: list[Any] = [accepted(claim) for claim in claims]
    endings[13] = MarkRetry("451", seconds)
    answers = await asyncio.gather(
        *(world.settle(claim, ending) for claim, ending in zip(claims, endings, strict=True)),
        return_exceptions=True,
    )
    assert [n for n, one in enumerate(answers) if not isinstance(one, Settled)] == [13]
    assert isinstance(answers[13], RowRefused)
    assert await world.value("SELECT count(*) FROM $messages WHERE state = 'sent'") == 49
    assert await world.state(claims[13]) == "sending"


async def test_one_claim_that_postgres_refuses_fails_alone(world: World) -> None:
    requests = [inline(f"k{n}") for n in range(20)]
    requests[3] = inline("k3", subject="\x00")
    requests[9] = inline("k\x009")
    answers = await asyncio.gather(*map(world.claim, requests), return_exceptions=True)
    assert [n for n, one in enumerate(answers) if isinstance(one, RowRefused)] == [3, 9]
    assert await world.value("SELECT count(*) FROM $messages WHERE state = 'sending'") == 18


async def test_a_settle_whose_commit_went_unanswered_is_written_once(database_url: str) -> None:
    async with TcpProxy(database_url) as proxy, world_of(database_url) as world:
        campaign = await world.campaign()
        await world.follow_up(campaign, delay_seconds=60)
        claim = await world.marked(campaign.request())
        settlement = Settlement(claim.id, claim.token, accepted(claim))
        async with opened(proxy.url, pool_size=1) as database:
            settling = asyncio.create_task(
                Settler(database, normalize=normalize).execute([settlement])
            )
            proxy.hold_replies()

            async def committed() -> bool:
                if await world.state(claim) == "sent":
                    return True
                if proxy.held_reply.is_set():
                    proxy.pass_all()
                    proxy.hold_replies()
                return False

            await eventually(committed)
            proxy.cut()
            proxy.pass_all()
            with pytest.raises(DatabaseAway):
                await settling
            ledger = ledger_over(database)
            answer = await ledger.settle(settlement)
            await ledger._settles.idle()
        assert isinstance(answer, Settled)
        assert answer.next_step is not None
        assert await world.counts(campaign) == {"sent": 1}
        assert await world.value("SELECT count(*) FROM $usage_events") == 1


async def test_suppressions_that_are_taken_back_in_their_own_batch_do_not_stay(
    world: World,
) -> None:
    campaign = await world.campaign(3)
    claims = [await world.marked(campaign.request(n)) for n in range(3)]
    suppress = [("dead0@b.example",), ("dead1@b.example",), ()]
    endings = [
        MarkFailed(FailReason.HARD_BOUNCE, "550", attempt_spent=True, suppress=one)
        for one in suppress
    ]
    withdraw = [(), (), tuple(claim.id for claim in claims)]
    # As a burst of bounces ends in which the last one trips the breaker.
    answers = await asyncio.gather(
        *(
            world.ledger.settle(Settlement(claim.id, claim.token, ending, rows))
            for claim, ending, rows in zip(claims, endings, withdraw, strict=True)
        )
    )
    assert answers == [Settled()] * 3
    assert await world.value("SELECT count(*) FROM $suppressions") == 0


async def test_a_bounce_that_is_written_after_it_was_taken_back_suppresses_nobody(
    world: World,
) -> None:
    campaign = await world.campaign(2)
    late, last = [await world.marked(campaign.request(n)) for n in range(2)]
    bounce = MarkFailed(
        FailReason.HARD_BOUNCE, "550", attempt_spent=True, suppress=("a@b.example",)
    )
    withheld = MarkFailed(FailReason.HARD_BOUNCE, "withheld", attempt_spent=True)
    # Postgres was away, and each of them was tried again at moments of its own.
    await world.ledger.settle(Settlement(last.id, last.token, withheld, (late.id, last.id)))
    assert await world.settle(late, bounce) == Settled()
    assert await world.value("SELECT count(*) FROM $suppressions") == 0


@pytest.mark.parametrize("reason", ["unsubscribe", "complaint", "manual"])
async def test_what_is_more_than_a_bounce_is_neither_overwritten_by_one_nor_taken_back(
    world: World, reason: str
) -> None:
    campaign = await world.campaign(2)
    first, last = [await world.marked(campaign.request(n)) for n in range(2)]
    await world.execute(
        "INSERT INTO $suppressions (address, reason, message_id) VALUES ('a@b.example', $1, $2)",
        reason,
        first.id,
    )
    bounce = MarkFailed(
        FailReason.HARD_BOUNCE, "550", attempt_spent=True, suppress=("a@b.example",)
    )
    await world.settle(first, bounce)
    assert await world.value("SELECT reason FROM $suppressions") == reason
    withheld = MarkFailed(FailReason.HARD_BOUNCE, "withheld", attempt_spent=True)
    await world.ledger.settle(Settlement(last.id, last.token, withheld, (first.id, last.id)))
    assert await world.value("SELECT reason FROM $suppressions") == reason
