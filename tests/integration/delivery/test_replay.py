"""A provider that takes a request twice: unknown outcomes are repeated, and one mail goes out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from campaign_worker.delivery.claims import Claimed
from campaign_worker.delivery.replay import Replayable
from campaign_worker.delivery.requests import CampaignRequest
from campaign_worker.delivery.settlements import MarkReleased, Superseded
from campaign_worker.mail.compose import ComposerOptions, MailComposer
from campaign_worker.mail.resend import ResendTransport
from campaign_worker.mail.resend_url import parse
from campaign_worker.queue.abort import AbortReason
from campaign_worker.queue.endings import Completed, Deferred, Failed, HandedBack
from shutdown import Deadline
from tests.fixtures.resend import Fault, Refuse, ResendApi
from tests.integration.delivery.kit import NOW_MS, Bench, bench_of
from tests.integration.storage.kit import JOB, MESSAGE_ID, World
from tests.support import eventually

RESEND = "resend"
TWICE = 2
"""A request whose connection breaks is repeated once before anybody hears of it."""


@pytest.fixture
async def transport(resend_api: ResendApi) -> AsyncIterator[ResendTransport]:
    transport = ResendTransport(
        parse(resend_api.url), name=RESEND, max_connections=2, send_timeout_seconds=5
    )
    yield transport
    await transport.close(Deadline.after(2))


@pytest.fixture
async def bench(database_url: str, transport: ResendTransport) -> AsyncIterator[Bench]:
    composer = MailComposer(ComposerOptions("News <news@example.org>"))
    async with bench_of(database_url, others=[transport], composer=composer) as bench:
        yield bench


async def mail(bench: Bench) -> CampaignRequest:
    """Make a campaign of one mail that goes out by the API."""
    campaign = await bench.world.campaign()
    await bench.world.execute(
        "UPDATE $campaigns SET transport = $1 WHERE id = $2", RESEND, campaign.id
    )
    return campaign.request()


async def due(bench: Bench) -> None:
    await bench.world.execute("UPDATE $messages SET due_at = now() WHERE state = 'scheduled'")


async def grow_old(bench: Bench, hours: int) -> None:
    """Let the marks of all rows be so much older."""
    await bench.world.execute(
        "UPDATE $messages SET first_marked_at = first_marked_at - make_interval(hours => $1),"
        " replay_until = replay_until - make_interval(hours => $1)",
        hours,
    )


async def expire(world: World) -> None:
    await world.execute(
        "UPDATE $messages SET lease_until = now() - interval '1 s' WHERE state = 'sending'"
    )


def until(seconds: float) -> Deferred:
    return Deferred(NOW_MS + round(seconds * 1000))


def kept(row: dict[str, Any]) -> list[bool]:
    """Tell which of the columns of a request a row has."""
    names = ("transport", "request", "first_marked_at", "replay_until")
    return [row[name] is not None for name in names]


async def sent_by_hand(
    bench: Bench, transport: ResendTransport, request: CampaignRequest
) -> Claimed:
    """Claim, mark and send as a process does that is killed before it can settle."""
    claim = await bench.world.claimed(request)
    composer = MailComposer(ComposerOptions("News <news@example.org>"))
    composed = composer.compose(claim)
    content = transport.prepare(composed, "the-rows-own-key")

    async def mark() -> None:
        replayable = Replayable(RESEND, content, transport.replay_seconds)
        assert await bench.world.ledger.mark(claim.id, claim.token, composed.message_id, replayable)

    async with transport.slot() as session:
        await session.send(composed.envelope, content, mark)
    return claim


async def test_an_accepted_mail_is_sent_and_its_request_forgotten(
    bench: Bench, resend_api: ResendApi
) -> None:
    request = await mail(bench)
    ending = await bench.run(request)
    row = await bench.world.row(request)
    assert ending == Completed({"outcome": "sent", "messageId": row["message_id"]})
    (got,) = resend_api.mails
    assert row["detail"] == f"200 {got['id']}"
    assert got["headers"]["Message-ID"] == row["message_id"]
    assert (row["state"], kept(row)) == ("sent", [False] * 4)


@pytest.mark.parametrize(
    "faults",
    [[Fault.CUT_AFTER] * TWICE, [Fault.CUT_BEFORE] * TWICE, [Fault.ERROR_AFTER],
     [Fault.ERROR_BEFORE]],
    ids=str,
)  # fmt: skip
async def test_an_unknown_outcome_is_repeated_later_and_costs_no_attempt(
    bench: Bench, resend_api: ResendApi, faults: list[Any]
) -> None:
    resend_api.faults = list(faults)
    request = await mail(bench)
    assert await bench.run(request) == until(60)
    row = await bench.world.row(request)
    assert (row["state"], row["attempts"], row["marked_at"]) == ("scheduled", 0, None)
    assert kept(row) == [True] * 4
    await due(bench)
    assert isinstance(await bench.run(request), Completed)
    assert (len(resend_api.mails), len(set(resend_api.requests))) == (1, 1)
    assert await bench.world.value("SELECT count(*) FROM $usage_events") == 1
    assert await bench.world.campaigns.untrue_counts() == []


async def test_a_repetition_is_the_same_to_the_byte_whatever_was_edited_meanwhile(
    bench: Bench, resend_api: ResendApi
) -> None:
    resend_api.faults = [Fault.CUT_AFTER] * TWICE
    request = await mail(bench)
    await bench.run(request)
    template = await bench.world.template("Edited")
    await bench.world.execute(
        "UPDATE $campaigns SET template_id = $1, name = 'edited', reply_to = 'new@example.org',"
        " mail_from = 'New <new@elsewhere.example>', headers = '{\"X-New\": \"1\"}'",
        template,
    )
    await bench.world.execute("UPDATE $recipients SET name = 'Edited', data = '{\"a\": 1}'")
    await due(bench)
    assert isinstance(await bench.run(request), Completed)
    assert len(resend_api.requests) == 3
    assert len(set(resend_api.requests)) == 1
    assert [one["subject"] for one in resend_api.mails] == ["Hello"]


async def test_pauses_grow_as_the_doubt_grows_old_and_stay_bounded(
    bench: Bench, resend_api: ResendApi
) -> None:
    request = await mail(bench)
    seconds = []
    for hours in (0, 0, 1, 10):
        resend_api.faults = [Fault.ERROR_BEFORE]
        await grow_old(bench, hours)
        await due(bench)
        ending = await bench.run(request)
        assert isinstance(ending, Deferred)
        seconds.append((ending.until_ms - NOW_MS) / 1000)
    assert seconds == [60, 60, 900, 900]


async def test_after_the_keys_life_the_row_is_in_doubt_and_nothing_is_asked(
    bench: Bench, resend_api: ResendApi
) -> None:
    resend_api.faults = [Fault.CUT_AFTER] * TWICE
    request = await mail(bench)
    await bench.run(request)
    await grow_old(bench, 24)
    await due(bench)
    ending = await bench.run(request)
    assert isinstance(ending, Failed)
    assert str(ending.error).startswith("in_doubt")
    row = await bench.world.row(request)
    assert (row["state"], row["marked_at"]) == ("in_doubt", row["first_marked_at"])
    assert len(resend_api.requests) == TWICE


async def test_refusals_that_executed_nothing_let_the_request_begin_anew(
    bench: Bench, resend_api: ResendApi
) -> None:
    resend_api.faults = [Refuse(429, "rate_limit_exceeded", retry_after="90")]
    request = await mail(bench)
    assert await bench.run(request) == until(90)
    row = await bench.world.row(request)
    assert (row["state"], row["attempts"], kept(row)) == ("scheduled", 0, [False] * 4)
    # However long a quota lasts: there is no doubt that could grow old.
    await due(bench)
    assert isinstance(await bench.run(request), Completed)


async def test_a_refused_repetition_keeps_the_doubt_and_its_age(
    bench: Bench, resend_api: ResendApi
) -> None:
    resend_api.faults = [*[Fault.CUT_AFTER] * TWICE, Refuse(429, "rate_limit_exceeded")]
    request = await mail(bench)
    await bench.run(request)
    first = (await bench.world.row(request))["first_marked_at"]
    await due(bench)
    assert await bench.run(request) == until(60)
    row = await bench.world.row(request)
    assert (row["state"], row["first_marked_at"], kept(row)) == ("scheduled", first, [True] * 4)
    await due(bench)
    assert isinstance(await bench.run(request), Completed)
    assert len(resend_api.mails) == 1


async def test_a_request_that_is_still_executed_is_asked_about_later(
    bench: Bench, resend_api: ResendApi
) -> None:
    resend_api.faults = [Refuse(409, "concurrent_idempotent_requests")]
    request = await mail(bench)
    assert await bench.run(request) == until(60)
    row = await bench.world.row(request)
    assert (row["state"], row["attempts"], kept(row)) == ("scheduled", 0, [True] * 4)


async def test_a_key_that_is_known_with_another_body_is_in_doubt_and_never_failed(
    bench: Bench, resend_api: ResendApi
) -> None:
    resend_api.faults = [Refuse(409, "invalid_idempotent_request")]
    request = await mail(bench)
    assert isinstance(await bench.run(request), Failed)
    assert await bench.world.state(request) == "in_doubt"


@pytest.mark.parametrize(
    "refuse",
    [Refuse(401, "missing_api_key"), Refuse(400, "validation_error", "API key is invalid"),
     Refuse(403, "validation_error", "The example.org domain is not verified")],
    ids=str,
)  # fmt: skip
async def test_a_provider_that_refuses_us_fails_no_row_and_suppresses_nobody(
    bench: Bench, resend_api: ResendApi, refuse: Refuse
) -> None:
    resend_api.faults = [refuse]
    request = await mail(bench)
    assert await bench.run(request) == until(60)
    row = await bench.world.row(request)
    assert (row["state"], row["attempts"]) == ("scheduled", 0)
    assert await bench.world.value("SELECT count(*) FROM $suppressions") == 0


async def test_a_mail_that_the_provider_rejects_fails_and_names_the_field(
    bench: Bench, resend_api: ResendApi
) -> None:
    resend_api.faults = [Refuse(422, "validation_error", "Invalid `to` field.")]
    request = await mail(bench)
    assert isinstance(await bench.run(request), Failed)
    row = await bench.world.row(request)
    assert (row["state"], row["reason"], row["attempts"]) == ("failed", "rejected", 1)
    assert "`to`" in row["detail"]
    assert kept(row) == [False] * 4
    assert await bench.world.value("SELECT count(*) FROM $suppressions") == 0


async def test_an_api_that_cannot_be_reached_marks_nothing_and_holds_its_jobs(
    bench: Bench, resend_api: ResendApi
) -> None:
    await resend_api.stop()
    request = await mail(bench)
    assert await bench.run(request) == until(0.01)
    row = await bench.world.row(request)
    assert (row["state"], row["attempts"], kept(row)) == ("scheduled", 0, [False] * 4)


async def test_a_process_killed_after_the_request_was_executed_has_sent_one_mail(
    bench: Bench, resend_api: ResendApi, transport: ResendTransport
) -> None:
    request = await mail(bench)
    await sent_by_hand(bench, transport, request)
    await expire(bench.world)
    resolved = await bench.world.recovery().resolve_expired()
    assert (resolved.scheduled, resolved.in_doubt) == (1, 0)
    assert isinstance(await bench.run(request), Completed)
    assert resend_api.keys == ["the-rows-own-key"] * 2
    assert len(resend_api.mails) == 1
    assert await bench.world.campaigns.untrue_counts() == []


async def test_a_process_killed_a_day_ago_leaves_its_row_in_doubt(
    bench: Bench, transport: ResendTransport
) -> None:
    request = await mail(bench)
    claim = await sent_by_hand(bench, transport, request)
    await grow_old(bench, 24)
    await expire(bench.world)
    resolved = await bench.world.recovery().resolve_expired()
    assert (resolved.scheduled, resolved.in_doubt) == (0, 1)
    assert (await bench.world.row(claim))["reason"] == "owner_lost_after_mark"


async def test_a_replay_whose_owners_keep_dying_is_repeated_ever_later_and_never_quarantined(
    bench: Bench, resend_api: ResendApi, transport: ResendTransport
) -> None:
    request = await mail(bench)
    claim = await sent_by_hand(bench, transport, request)
    recovery = bench.world.recovery(quarantine_deaths=2)
    pauses = []
    for death, hours in enumerate((0, 2, 2, 4)):
        if death:
            await due(bench)
            again = await bench.world.ledger.claim(request, f"t{death}", JOB, alone=True)
            assert isinstance(again, Claimed)
            assert again.replay is not None
        await grow_old(bench, hours)
        await expire(bench.world)
        assert (await recovery.resolve_expired()).scheduled == 1
        row = await bench.world.row(claim)
        assert (row["deaths"], row["state"], kept(row)) == (death + 1, "scheduled", [True] * 4)
        left = await bench.world.value("SELECT extract(epoch FROM due_at - now()) FROM $messages")
        pauses.append(max(0, round(float(left) / 3600)))
    assert pauses == [0, 2, 4, 8], "as long again as the doubt is old"
    await due(bench)
    assert isinstance(await bench.run(request), Completed)
    assert len(resend_api.mails) == 1


async def test_a_replay_whose_owners_died_too_often_is_in_doubt_when_its_time_is_over(
    bench: Bench, transport: ResendTransport
) -> None:
    claim = await sent_by_hand(bench, transport, await mail(bench))
    await bench.world.execute("UPDATE $messages SET deaths = 10")
    await grow_old(bench, 24)
    await expire(bench.world)
    assert (await bench.world.recovery(quarantine_deaths=2).resolve_expired()).in_doubt == 1
    assert await bench.world.state(claim) == "in_doubt"


async def test_a_cancel_after_the_mark_leaves_the_row_to_be_repeated(
    bench: Bench, resend_api: ResendApi
) -> None:
    resend_api.faults = [Fault.SLOW]
    request = await mail(bench)
    running = await bench.running(request)
    await eventually(lambda: resend_api.mails)
    running.cancel()
    await asyncio.wait([running])
    row = await bench.world.row(request)
    assert (row["state"], row["attempts"], kept(row)) == ("scheduled", 0, [True] * 4)
    # The first request is still executed: later.
    assert await bench.run(request) == until(60)
    resend_api.released.set()
    await due(bench)
    assert isinstance(await eventually(lambda: _completed(bench, request)), Completed)
    assert len(resend_api.mails) == 1


async def _completed(bench: Bench, request: CampaignRequest) -> Completed | None:
    await due(bench)
    ending = await bench.run(request)
    return ending if isinstance(ending, Completed) else None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("UPDATE $recipients SET unsubscribed_at = now()", "unsubscribed"),
        ("UPDATE $campaigns SET status = 'cancelled'", "campaign_cancelled"),
    ],
)
async def test_a_guard_stops_a_repetition_and_the_row_says_that_nobody_knows(
    bench: Bench, resend_api: ResendApi, change: str, reason: str
) -> None:
    resend_api.faults = [Fault.CUT_AFTER] * TWICE
    request = await mail(bench)
    await bench.run(request)
    await bench.world.execute(change)
    await due(bench)
    assert isinstance(await bench.run(request), Failed)
    row = await bench.world.row(request)
    assert (row["state"], row["reason"]) == ("in_doubt", "replay_refused")
    assert row["detail"] == reason
    assert len(resend_api.requests) == TWICE
    assert await bench.world.campaigns.untrue_counts() == []


async def test_a_paused_campaigns_repetition_waits(bench: Bench, resend_api: ResendApi) -> None:
    resend_api.faults = [Fault.CUT_AFTER] * TWICE
    request = await mail(bench)
    await bench.run(request)
    await bench.world.execute("UPDATE $campaigns SET status = 'paused'")
    await due(bench)
    assert isinstance(await bench.run(request), Deferred)
    assert kept(await bench.world.row(request)) == [True] * 4
    await bench.world.execute("UPDATE $campaigns SET status = 'running'")
    await due(bench)
    assert isinstance(await bench.run(request), Completed)
    assert len(resend_api.mails) == 1


async def test_a_repetition_never_goes_another_way(bench: Bench, resend_api: ResendApi) -> None:
    resend_api.faults = [Fault.CUT_AFTER] * TWICE
    request = await mail(bench)
    await bench.run(request)
    await bench.world.execute("UPDATE $messages SET transport = 'gone'")
    await due(bench)
    assert isinstance(await bench.run(request), Failed)
    assert await bench.world.state(request) == "in_doubt"
    assert len(resend_api.requests) == TWICE


async def test_an_operators_resend_begins_anew_with_the_rows_own_key(
    bench: Bench, resend_api: ResendApi
) -> None:
    resend_api.faults = [Fault.CUT_BEFORE] * TWICE
    request = await mail(bench)
    await bench.run(request)
    await grow_old(bench, 24)
    await due(bench)
    await bench.run(request)
    row = await bench.world.row(request)
    await bench.world.execute(
        "UPDATE $messages SET state = 'scheduled', reason = NULL, token = NULL, marked_at = NULL,"
        " settled_at = NULL, due_at = now() WHERE state = 'in_doubt'"
    )
    assert kept(await bench.world.row(request)) == [False] * 4
    assert isinstance(await bench.run(request), Completed)
    assert len(set(resend_api.requests)) == 1
    assert row["message_id"] == (await bench.world.row(request))["message_id"]


@pytest.mark.parametrize("by", ["an earlier claim", "the same claim"])
async def test_a_late_unknown_ending_does_not_move_a_row_that_is_in_doubt(
    bench: Bench, transport: ResendTransport, by: str
) -> None:
    request = await mail(bench)
    claim = await sent_by_hand(bench, transport, request)
    await grow_old(bench, 24)
    if by == "the same claim":
        await bench.world.execute("UPDATE $messages SET first_marked_at = marked_at")
    await expire(bench.world)
    await bench.world.recovery().resolve_expired()
    answer = await bench.world.settle(claim, MarkReleased("late", 0.0, unknown=True))
    assert answer == Superseded("in_doubt")


async def test_after_its_time_a_repetition_is_not_marked(
    bench: Bench, resend_api: ResendApi
) -> None:
    resend_api.faults = [Fault.CUT_AFTER] * TWICE
    request = await mail(bench)
    await bench.run(request)
    await due(bench)
    claim = await bench.world.claimed(request)
    assert claim.replay is not None
    assert claim.replay.open
    await grow_old(bench, 24)
    assert not await bench.world.ledger.mark(claim.id, claim.token, MESSAGE_ID)


async def test_a_repetition_that_never_began_does_not_end_the_doubt_about_the_first_request(
    bench: Bench, resend_api: ResendApi
) -> None:
    resend_api.faults = [Fault.CUT_AFTER] * TWICE
    request = await mail(bench)
    await bench.run(request)
    await due(bench)
    world = bench.world
    claim = await world.claimed(request)
    assert claim.replay is not None
    replayable = Replayable(RESEND, claim.replay.request, 60.0)
    assert await world.ledger.mark(claim.id, claim.token, MESSAGE_ID, replayable)
    # The process stands still right there, until its lease is over and the key forgotten.
    await grow_old(bench, 25)
    await expire(world)
    assert (await world.recovery().resolve_expired()).in_doubt == 1
    assert await world.settle(claim, MarkReleased("interrupted")) == Superseded("in_doubt")
    assert await world.state(request) == "in_doubt"
    assert isinstance(await bench.run(request), Failed)
    assert len(resend_api.mails) == 1


async def test_a_stop_between_a_request_and_its_repetition_keeps_what_was_sent(
    bench: Bench, resend_api: ResendApi
) -> None:
    async def stop() -> None:
        bench.signal.abort(AbortReason.SHUTDOWN)

    resend_api.faults, resend_api.on_request = [Fault.CUT_AFTER], stop
    request = await mail(bench)
    assert await bench.run(request) == HandedBack("interrupted")
    row = await bench.world.row(request)
    assert (row["state"], kept(row)) == ("scheduled", [True] * 4)
    assert len(resend_api.mails) == 1


@pytest.mark.parametrize(
    "refusal",
    [Refuse(429, "rate_limit_exceeded"), Refuse(401, "invalid_api_key"), Refuse(503, "")],
    ids=lambda one: str(one.status),
)
async def test_a_repetition_that_is_not_looked_at_tells_nothing_of_the_first_request(
    bench: Bench, resend_api: ResendApi, refusal: Refuse
) -> None:
    resend_api.faults = [Fault.CUT_AFTER, refusal]
    request = await mail(bench)
    assert not isinstance(await bench.run(request), Failed)
    row = await bench.world.row(request)
    assert (row["state"], kept(row)) == ("scheduled", [True] * 4)
    await due(bench)
    assert isinstance(await bench.run(request), Completed)
    assert len(resend_api.mails) == 1


async def test_a_repetition_that_is_refused_for_what_it_is_ends_the_mail(
    bench: Bench, resend_api: ResendApi
) -> None:
    resend_api.faults = [Fault.CUT_BEFORE, Refuse(422, "validation_error")]
    request = await mail(bench)
    assert isinstance(await bench.run(request), Failed)
    assert (await bench.world.row(request))["reason"] == "rejected"
