"""An outcome that Postgres cannot take is written down, and comes to its row once."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING

import pytest
import redis.asyncio

from campaign_worker.delivery.model import Refusal
from campaign_worker.delivery.settlements import (
    Ending,
    FailReason,
    MarkFailed,
    MarkInDoubt,
    MarkReleased,
    MarkRetry,
    MarkSent,
    Settled,
    Settlement,
)
from campaign_worker.delivery.spool import Drain, from_fields, to_fields
from campaign_worker.delivery.writing import Writer
from campaign_worker.errors import RedisAway
from campaign_worker.queue.endings import Completed
from campaign_worker.storage.doubts import Doubts, Selection, Verdict
from campaign_worker.storage.migrate import migrate
from campaign_worker.storage.spool import RedisSpool
from tests.integration.delivery.kit import Bench, Notebook
from tests.integration.delivery.test_outages import bench_on, reconnect
from tests.integration.storage.kit import MESSAGE_ID, inline
from tests.support import eventually

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from campaign_worker.delivery.claims import Claimed
    from campaign_worker.embedded.postgres import PostgresServer
    from campaign_worker.embedded.redis import RedisServer

ADDRESS = "someone@example.com"
HARD = (FailReason.HARD_BOUNCE, "550 5.1.1", True)
REFUSED = Refusal(ADDRESS, 550, "5.1.1", f"{ADDRESS} is unknown")
ENDINGS: list[Ending] = [
    MarkSent(MESSAGE_ID, f"250 kept for {ADDRESS}", (REFUSED,)),
    MarkFailed(
        FailReason.HARD_BOUNCE, f"{ADDRESS} is unknown", attempt_spent=True, suppress=(ADDRESS,)
    ),
    MarkFailed(FailReason.RENDER_ERROR, "no such name", attempt_spent=False, suppress=(ADDRESS,)),
    MarkRetry(f"busy for {ADDRESS}", 7.5),
    MarkReleased(f"not now, {ADDRESS}", 2.5, unknown=True),
    MarkInDoubt(MESSAGE_ID, f"nothing heard of {ADDRESS}", resend=True),
]


@pytest.mark.parametrize("ending", ENDINGS, ids=lambda ending: type(ending).__name__)
def test_what_is_written_down_keeps_our_words_and_nobodys_address(ending: Ending) -> None:
    fields = to_fields(Settlement(5, "token", ending))
    assert ADDRESS not in json.dumps(fields)
    read = from_fields(fields)
    assert read is not None
    assert (read.id, read.token, type(read.ending)) == (5, "token", type(ending))
    for name in ("message_id", "reason", "attempt_spent", "seconds", "unknown", "resend"):
        assert getattr(read.ending, name, None) == getattr(ending, name, None)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"version": "2", "outcome": "{}"},
        {"version": "1", "outcome": "nothing"},
        {"version": "1", "outcome": '{"row": 1, "token": "t", "ending": "vanished"}'},
        {"version": "1", "outcome": "[]"},
    ],
)
def test_what_another_version_wrote_is_not_guessed_at(fields: dict[str, str]) -> None:
    assert from_fields(fields) is None


NAMED = "f2e1278655167348"
"""What a@example.com is called in a claim whose token is `token`."""

HEAD = '{"row": 5, "token": "token", "withdraw": [3], '
SENT = f'{HEAD}"bounced": [], "ending": "sent", "message_id": "<m@x>"}}'
BOUNCED = (
    f'{HEAD}"bounced": ["{NAMED}"], "ending": "failed", "reason": "hard_bounce",'
    ' "attempt_spent": true}'
)


@pytest.mark.parametrize(
    ("outcome", "ending", "bounced"),
    [
        (SENT, MarkSent("<m@x>", ""), []),
        (BOUNCED, MarkFailed(*HARD, suppress=("A@example.com",)), [NAMED]),
    ],
    ids=["sent", "bounced"],
)
def test_an_outcome_is_read_by_the_replicas_of_every_version(
    outcome: str, ending: Ending, bounced: list[str]
) -> None:
    fields = {"version": "1", "outcome": outcome}
    assert to_fields(Settlement(5, "token", ending, (3,))) == fields
    read = from_fields(fields)
    assert read is not None
    assert (read.id, read.token, read.withdraw) == (5, "token", (3,))
    assert (type(read.ending), read.bounced) == (type(ending), frozenset(bounced))


async def test_an_accepted_mail_is_written_down_after_a_second_and_forgotten_when_it_is_in_its_row(
    own_postgres: Callable[..., Awaitable[PostgresServer]],
) -> None:
    server = await own_postgres()
    await migrate(server.url)
    async with bench_on(server) as bench:
        request = (await bench.world.campaign()).request()
        bench.smtp.after_mark = lambda: server.stop("immediate")
        running = await bench.running(request)
        await eventually(lambda: bench.spool.written)
        assert isinstance(bench.spool.written[0].ending, MarkSent)
        assert not running.done()
        await server.start()
        assert isinstance(await running, Completed)
        assert bench.spool.entries == {}
        await reconnect(bench, server)
        assert (await bench.world.row(request))["state"] == "sent"


async def test_an_accepted_mail_survives_a_job_that_is_cut_off_while_postgres_is_away(
    own_postgres: Callable[..., Awaitable[PostgresServer]],
) -> None:
    server = await own_postgres()
    await migrate(server.url)
    async with bench_on(server) as bench:
        request = (await bench.world.campaign()).request()
        bench.smtp.after_mark = lambda: server.stop("immediate")
        running = await bench.running(request)
        await eventually(lambda: "hold postgres" in bench.notes.held)
        assert bench.spool.written == [], "it was cut off before the second was over"
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        assert [type(one.ending) for one in bench.spool.written] == [MarkSent]
        await server.start()
        await reconnect(bench, server)
        assert (await bench.world.row(request))["state"] == "sending"
        assert await drained(bench) == 1
        assert (await bench.world.row(request))["state"] == "sent"
        assert bench.spool.entries == {}


async def test_a_hard_bounce_that_was_written_down_suppresses_its_address(bench: Bench) -> None:
    claim = await bench.world.marked((await bench.world.campaign()).request())
    address = await bench.world.value("SELECT email FROM $recipients")
    await put_in_redis_and_drain(bench, claim, MarkFailed(*HARD, suppress=(address.upper(),)))
    assert await bench.world.state(claim) == "failed"
    (suppressed,) = await bench.world.rows("SELECT address, reason, message_id FROM $suppressions")
    assert suppressed == {"address": address, "reason": "hard_bounce", "message_id": claim.id}


async def test_of_several_recipients_only_those_that_bounced_are_suppressed_later(
    bench: Bench,
) -> None:
    everybody = ("A@example.com", "Bücher <b@bücher.example>", "c@example.com")
    claim = await bench.world.marked(inline(to=everybody, bcc=("d@example.com",)))
    refused = [
        Refusal(one, 550, "5.1.1", "?") for one in ("A@example.com", "b@xn--bcher-kva.example")
    ]
    await put_in_redis_and_drain(bench, claim, MarkSent(MESSAGE_ID, "250", tuple(refused)))
    assert await bench.world.state(claim) == "sent"
    rows = await bench.world.rows("SELECT address FROM $suppressions ORDER BY address")
    assert [row["address"] for row in rows] == ["a@example.com", "b@xn--bcher-kva.example"]


async def test_a_hard_bounce_that_was_not_believed_suppresses_nobody_later_either(
    bench: Bench,
) -> None:
    claim = await bench.world.marked((await bench.world.campaign()).request())
    await put_in_redis_and_drain(bench, claim, MarkFailed(*HARD))
    assert await bench.world.state(claim) == "failed"
    assert await bench.world.value("SELECT count(*) FROM $suppressions") == 0


async def test_an_entry_that_is_drained_twice_counts_once(bench: Bench) -> None:
    request = (await bench.world.campaign()).request()
    claim = await bench.world.marked(request)
    sent = Settlement(claim.id, claim.token, MarkSent(MESSAGE_ID, ""))
    for _ in range(2):
        await bench.spool.put(sent)
        assert await drained(bench) == 1
    assert await bench.world.value("SELECT count(*) FROM $usage_events") == 1
    assert await bench.world.value("SELECT sum(sent_count) FROM $campaign_counts") == 1


@pytest.mark.parametrize("verdict", [Verdict.MARK_FAILED, Verdict.RESEND])
async def test_an_entry_of_a_row_that_an_operator_has_ended_changes_nothing(
    bench: Bench, verdict: Verdict
) -> None:
    request = (await bench.world.campaign()).request()
    claim = await bench.world.marked(request)
    await bench.world.settle(claim, MarkInDoubt(MESSAGE_ID, "lost"))
    await Doubts(bench.world.database).decide(Selection(), verdict)
    before = await bench.world.row(request)
    assert before["state"] in ("failed", "scheduled")
    await bench.spool.put(Settlement(claim.id, claim.token, MarkSent(MESSAGE_ID, "")))
    assert await drained(bench) == 0
    assert await bench.world.row(request) == before
    assert bench.spool.entries == {}


async def test_an_entry_whose_row_was_put_in_doubt_meanwhile_ends_the_doubt(bench: Bench) -> None:
    request = (await bench.world.campaign()).request()
    claim = await bench.world.marked(request)
    await bench.world.settle(claim, MarkInDoubt(MESSAGE_ID, "lost"))
    await bench.spool.put(Settlement(claim.id, claim.token, MarkSent(MESSAGE_ID, "")))
    assert await drained(bench) == 1
    assert (await bench.world.row(request))["state"] == "sent"


@pytest.mark.parametrize(
    ("ending", "state"),
    [
        (MarkFailed(*HARD, suppress=("a\x00@b.example",)), "failed"),
        (MarkSent(MESSAGE_ID, "250", (Refusal("a\x00@b.example", 550, "5.1.1", "?"),)), "sent"),
        (MarkRetry("451", float("inf")), "scheduled"),
        (MarkReleased("later", float("inf")), "scheduled"),
    ],
    ids=lambda one: type(one).__name__ if isinstance(one, Ending) else one,
)
async def test_an_ending_whose_details_postgres_refuses_is_written_without_them(
    bench: Bench, ending: Ending, state: str
) -> None:
    claim = await bench.world.marked((await bench.world.campaign()).request())
    writer = Writer(bench.world.ledger, bench.spool, bench.gate)
    assert await writer.write(Settlement(claim.id, claim.token, ending)) == Settled()
    row = await bench.world.row(claim)
    spent = isinstance(ending, MarkFailed | MarkRetry)
    assert (row["state"], row["attempts"]) == (state, int(spent))


async def test_entries_stay_while_postgres_is_away(
    own_postgres: Callable[..., Awaitable[PostgresServer]],
) -> None:
    server = await own_postgres()
    await migrate(server.url)
    async with bench_on(server) as bench:
        claim = await bench.world.marked((await bench.world.campaign()).request())
        await bench.spool.put(Settlement(claim.id, claim.token, MarkSent(MESSAGE_ID, "")))
        await server.stop("immediate")
        with pytest.raises(Exception, match="Postgres"):
            await drained(bench)
        assert len(bench.spool.entries) == 1


async def test_the_stream_keeps_many_entries_in_order_and_gives_them_up_one_by_one(
    bench: Bench, redis_client: redis.asyncio.Redis, prefix: str
) -> None:
    world = bench.world
    spool = RedisSpool(redis_client, f"{prefix}:outcomes")
    requests = await world.campaign(450)
    claims = [await world.marked(requests.request(index)) for index in range(450)]
    for claim in claims:
        await spool.put(Settlement(claim.id, claim.token, MarkSent(MESSAGE_ID, "")))
    await redis_client.xadd(f"{prefix}:outcomes", {"version": "2", "outcome": "?"})
    assert [entry.settlement.id for entry in await spool.page("-", 3) if entry.settlement] == [
        claim.id for claim in claims[:3]
    ]
    assert await Drain(spool, world.ledger.settle).run() == 450
    assert await redis_client.xlen(f"{prefix}:outcomes") == 1, "another version's stays"
    assert await world.value("SELECT count(*) FROM $messages WHERE state = 'sent'") == 450


async def test_a_redis_that_is_frozen_holds_nobody_up(
    own_redis: Callable[..., Awaitable[RedisServer]],
) -> None:
    server = await own_redis(appendonly=False)
    client = redis.asyncio.Redis.from_url(server.url)
    spool = RedisSpool(client, "outcomes")
    server.freeze()
    try:
        async with asyncio.timeout(3):
            with pytest.raises(RedisAway):
                await spool.put(Settlement(1, "token", MarkSent(MESSAGE_ID, "")))
    finally:
        server.thaw()
        await client.aclose()


async def put_in_redis_and_drain(bench: Bench, claim: Claimed, ending: Ending) -> None:
    """Have an ending come to its row by what is written down of it, and by nothing else."""
    settlement = from_fields(to_fields(Settlement(claim.id, claim.token, ending)))
    assert settlement is not None
    await bench.spool.put(settlement)
    assert await drained(bench) == 1


async def drained(bench: Bench) -> int:
    assert isinstance(bench.spool, Notebook)
    return await Drain(bench.spool, bench.world.ledger.settle).run()
