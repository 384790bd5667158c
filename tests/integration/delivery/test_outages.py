"""Postgres goes away in the middle of a mail: nothing is lost, nothing is sent twice."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import asyncpg
import pytest

from campaign_worker.queue.endings import Completed, HandedBack
from campaign_worker.storage.migrate import migrate
from tests.integration.delivery.kit import Bench
from tests.integration.storage.kit import World, opened
from tests.support import TcpProxy, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from campaign_worker.delivery.requests import CampaignRequest
    from campaign_worker.embedded.postgres import PostgresServer


@contextlib.asynccontextmanager
async def bench_on(server: PostgresServer) -> AsyncIterator[Bench]:
    """Give a bench whose Postgres may be stopped; tests read through connections of their own."""
    async with opened(server.url) as database:
        raw = await asyncpg.connect(server.url)
        bench = Bench(World(database, raw))
        await bench.gate.start()
        try:
            yield bench
        finally:
            await bench.gate.stop()
            await bench.world.raw.close(timeout=1)


async def reconnect(bench: Bench, server: PostgresServer) -> None:
    with contextlib.suppress(OSError, asyncpg.PostgresError):
        await bench.world.raw.close(timeout=1)
    bench.world.raw = await asyncpg.connect(server.url)


async def running_when_away(
    bench: Bench, server: PostgresServer, request: CampaignRequest
) -> tuple[bool, object]:
    """Run a job whose Postgres stops where the bench's hook says, and starts once intake is held.

    Returns whether the job had ended while Postgres was away, and its ending.
    """
    running = await bench.running(request)
    await eventually(lambda: "hold postgres" in bench.notes.held, 10)
    early = running.done()
    await server.start()
    ending = await running
    await reconnect(bench, server)
    await eventually(lambda: bench.notes.held[-1] == "release postgres", 10)
    return early, ending


async def test_postgres_away_at_the_mark_gives_the_row_back_and_the_job(
    own_postgres: Callable[..., Awaitable[PostgresServer]],
) -> None:
    server = await own_postgres()
    await migrate(server.url)
    async with bench_on(server) as bench:
        request = (await bench.world.campaign()).request()
        bench.smtp.before_mark = lambda: server.stop("immediate")
        early, ending = await running_when_away(bench, server, request)
        assert not early, "the row is released before the job is handed back"
        assert ending == HandedBack("database_away")
        row = await bench.world.row(request)
        assert (row["state"], row["attempts"], row["marked_at"]) == ("scheduled", 0, None)
        assert "body" not in bench.smtp.log
        bench.smtp.before_mark = None
        assert isinstance(await bench.run(request), Completed)


async def test_postgres_away_at_the_settle_is_waited_for(
    own_postgres: Callable[..., Awaitable[PostgresServer]],
) -> None:
    server = await own_postgres()
    await migrate(server.url)
    async with bench_on(server) as bench:
        campaign = await bench.world.campaign()
        bench.smtp.after_mark = lambda: server.stop("immediate")
        early, ending = await running_when_away(bench, server, campaign.request())
        assert not early, "an accepted mail is recorded before its job ends"
        assert isinstance(ending, Completed)
        assert await bench.world.counts(campaign) == {"sent": 1}
        assert bench.smtp.log.count("body") == 1


async def test_postgres_away_at_the_claim_hands_the_job_back_at_once(
    own_postgres: Callable[..., Awaitable[PostgresServer]],
) -> None:
    server = await own_postgres()
    await migrate(server.url)
    async with bench_on(server) as bench:
        request = (await bench.world.campaign()).request()
        await server.stop("immediate")
        assert await bench.run(request) == HandedBack("database_away")
        assert bench.notes.held == ["hold postgres"]
        await server.start()
        await eventually(lambda: bench.notes.held[-1] == "release postgres", 10)
        await reconnect(bench, server)
        assert isinstance(await bench.run(request), Completed)


@pytest.mark.parametrize("marked", [False, True])
async def test_a_job_cancelled_while_postgres_is_away_ends_all_the_same(
    own_postgres: Callable[..., Awaitable[PostgresServer]], *, marked: bool
) -> None:
    server = await own_postgres()
    await migrate(server.url)
    async with bench_on(server) as bench:
        request = (await bench.world.campaign()).request()
        there = asyncio.Event()

        async def hang() -> None:
            await server.stop("immediate")
            there.set()
            await asyncio.Event().wait()

        if marked:
            bench.smtp.after_mark = hang
        else:
            bench.smtp.before_mark = hang
        running = await bench.running(request)
        await there.wait()
        running.cancel()
        # The write's last moment is two seconds.
        done, _ = await asyncio.wait([running], timeout=4)
        assert done
        assert running.cancelled()
        await server.start()
        await reconnect(bench, server)
        # The row itself tells how far it came; the reconciler does the rest when the lease is over.
        row = await bench.world.row(request)
        assert (row["state"], row["marked_at"] is not None) == ("sending", marked)
        await bench.world.execute("UPDATE $messages SET lease_until = now() - interval '1 s'")
        resolved = await bench.world.recovery().resolve_expired()
        assert (resolved.scheduled, resolved.in_doubt) == ((0, 1) if marked else (1, 0))


async def test_a_mark_whose_reply_is_lost_is_found_again_and_the_mail_goes_once(
    database_url: str,
) -> None:
    async with (
        TcpProxy(database_url) as proxy,
        opened(proxy.url, pool_size=2) as database,
    ):
        raw = await asyncpg.connect(database_url)
        bench = Bench(World(database, raw))

        async def cut() -> None:
            proxy.cut_on_next_reply()

        try:
            bench.smtp.before_mark = cut
            campaign = await bench.world.campaign()
            assert isinstance(await bench.run(campaign.request()), Completed)
            assert bench.smtp.log.count("body") == 1
            assert await bench.world.counts(campaign) == {"sent": 1}
        finally:
            await raw.close(timeout=1)


async def test_a_schema_that_is_broken_is_an_outage_and_no_fault_of_a_job(
    database_url: str,
) -> None:
    async with opened(database_url) as database:
        raw = await asyncpg.connect(database_url)
        bench = Bench(World(database, raw))
        await bench.gate.start()
        try:
            request = (await bench.world.campaign()).request()
            await bench.world.execute("ALTER TABLE $messages RENAME TO gone")
            assert await bench.run(request) == HandedBack("database_away")
            await bench.world.execute("ALTER TABLE $gone RENAME TO messages")
            assert isinstance(await bench.run(request), Completed)
        finally:
            await bench.gate.stop()
            await raw.close(timeout=1)
