"""`campaign-worker track`, and `run` with a tracker, as processes: what is answered is not lost."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter

import aiohttp
import asyncpg
import pytest

from campaign_worker.embedded.postgres import PostgresServer
from campaign_worker.settings.kinds import SigningKey
from campaign_worker.tracking.tokens import Keyring
from campaign_worker.tracking.urls import TrackingUrls
from tests.acceptance.process import WorkerProcess
from tests.acceptance.site import Site, SiteMaker
from tests.fixtures.mailed import Mailed, seed
from tests.fixtures.proxy import TcpProxy
from tests.fixtures.webhooks import POSTMARK_BOUNCE, POSTMARK_SECRET, postmark_headers
from tests.support import eventually

SECRET = "signing-secret-of-this-test-0123456789"
URLS = TrackingUrls("", Keyring([SigningKey("2026", SECRET)]))
KEYS = {
    "TRACKING_SIGNING_KEYS": f"2026:{SECRET}",
    "TRACKING_LIMIT_PER_LINK": "0",
    "TRACKING_LIMIT_PER_CLIENT": "0",
}
BROWSER = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0"}
ONE_CLICK = {"List-Unsubscribe": "One-Click"}


# Says how many objects the collector passes over when the loop begins.
COLLECTOR = """
import gc, uvloop
make = uvloop.new_event_loop
uvloop.new_event_loop = lambda: (print("passed over", gc.get_freeze_count(), flush=True), make())[1]
"""

# What comes twice a second, and would mostly do, does not come: the claims themselves have to wait.
NO_DRAINER = """
import campaign_worker.tracking.drain as drain
async def idle(self): pass
drain.Drainer._start = idle
"""

# The machine's clock is wrong by so many hours.
WRONG_CLOCK = """
import datetime
true = datetime.datetime
class Wrong(true):
    @classmethod
    def now(cls, tz=None):
        return true.now(tz) + datetime.timedelta(hours={hours})
datetime.datetime = Wrong
"""


async def asked(worker: WorkerProcess, path: str, method: str = "GET", **options: object) -> int:
    """Ask once, over a connection of its own; 0 when nobody answered."""
    timeout = aiohttp.ClientTimeout(total=5)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, headers=BROWSER) as session,
            session.request(
                method,
                f"http://127.0.0.1:{worker.port}{path}",
                allow_redirects=False,
                **options,  # type: ignore[arg-type]  # aiohttp's many
            ) as answer,
        ):
            await answer.read()
            return answer.status
    except (aiohttp.ClientError, OSError, TimeoutError):
        return 0


async def opens(site: Site) -> Counter[int]:
    """Count the stored opens by message."""
    async with site.postgres() as connection:
        rows = await connection.fetch(
            "SELECT message_id, count(*) FROM campaign_worker.tracking_events"
            " WHERE kind = 'open' GROUP BY message_id"
        )
    return Counter({row["message_id"]: row["count"] for row in rows})


async def test_a_stop_in_the_middle_of_requests_loses_none_that_was_answered(
    make_site: SiteMaker,
) -> None:
    site = make_site(secrets=(SECRET,), env=KEYS)
    mailed = await seed(site.database_url, 40)
    worker = await site.ready("tracker", command="track")
    answered: Counter[int] = Counter()

    async def read_on(message: int) -> None:
        while await asked(worker, URLS.open(message)) == 200:
            answered[message] += 1

    readers = [asyncio.create_task(read_on(message)) for message in mailed.messages]
    await eventually(lambda: answered.total() >= 100)
    worker.send(signal.SIGTERM)
    assert await worker.ended() == 0
    await asyncio.gather(*readers)
    (words,) = worker.records("tracker stopped")
    assert words["kept"] == 0
    # On a busy machine some are in the stream, for whoever comes next.
    await site.ready("next", command="track")

    async def all_there() -> bool:
        return not answered - await opens(site)

    await eventually(all_there, 10)
    stored = await opens(site)
    # What was stored and not answered was under way when its connection ended.
    assert (stored - answered).total() <= len(mailed.messages)


async def test_it_starts_without_postgres_and_gives_it_later_what_it_was_asked(
    make_site: SiteMaker, mortal_postgres: PostgresServer
) -> None:
    site = make_site(database_url=mortal_postgres.url, secrets=(SECRET,), env=KEYS)
    mailed = await seed(site.database_url, 1)
    await mortal_postgres.stop("immediate")
    worker = await site.ready("tracker", command="track")
    for _ in range(3):
        assert await asked(worker, URLS.open(mailed.messages[0])) == 200
    click = URLS.click(mailed.messages[0], destination="https://shop.example")
    assert await asked(worker, click) == 302
    await mortal_postgres.start()
    await eventually(lambda: _has(site, mailed, 3), 20)
    worker.send(signal.SIGTERM)
    assert await worker.ended() == 0


async def test_a_stop_gives_to_redis_what_is_in_memory_only(
    make_site: SiteMaker, database_url: str, redis_url: str
) -> None:
    async with TcpProxy(database_url) as postgres, TcpProxy(redis_url) as redis_proxy:
        site = make_site(database_url=database_url, secrets=(SECRET,), env=KEYS)
        mailed = await seed(database_url, 1)
        away = {"DATABASE_URL": postgres.url, "REDIS_URL": redis_proxy.url}
        worker = await site.ready("tracker", command="track", **away)
        for proxy in (postgres, redis_proxy):
            proxy.refuse()
        assert await asked(worker, URLS.open(mailed.messages[0])) == 200
        worker.send(signal.SIGTERM)
        await worker.says("stopping")
        redis_proxy.pass_all()
        assert await worker.ended() == 0
    (words,) = worker.records("tracker stopped")
    assert words["kept"] == 0
    await site.ready("next", command="track")
    await eventually(lambda: _has(site, mailed, 1), 10)


async def test_whoever_clicks_as_soon_as_it_is_ready_is_led_on(
    make_site: SiteMaker, database_url: str
) -> None:
    async with TcpProxy(database_url) as proxy:
        # Redis answers long before Postgres, and does not know the link.
        proxy.hold_replies()
        site = make_site(database_url=proxy.url, secrets=(SECRET,), env=KEYS)
        mailed = await seed(database_url, 1, links=1)
        worker = site.start("tracker", command="track")
        await asyncio.wait_for(proxy.held_reply.wait(), 20)
        asyncio.get_running_loop().call_later(0.5, proxy.pass_all)
        await worker.ready()
        click = URLS.click(mailed.messages[0], link_id=mailed.links[0])
        assert await asked(worker, click) == 302
        worker.send(signal.SIGTERM)
        assert await worker.ended() == 0


async def _has(site: Site, mailed: Mailed, count: int) -> bool:
    try:
        return await opens(site) == Counter({mailed.messages[0]: count})
    except (OSError, asyncpg.PostgresError):
        return False


async def test_a_tracker_says_what_it_counts(make_site: SiteMaker) -> None:
    site = make_site(secrets=(SECRET,), env=KEYS)
    mailed = await seed(site.database_url, 1)
    worker = await site.ready("tracker", command="track")
    assert await asked(worker, URLS.open(mailed.messages[0])) == 200
    assert await asked(worker, "/o/forged.gif") == 404
    counted = "campaign_worker_tracking_refused_total"
    assert await worker.metric(f'{counted}{{kind="open",reason="invalid_token"}}') == 1
    text = "campaign_worker_tracking_requests_total"
    found = 0.0
    for result in ("postgres", "stream", "unsecured"):
        labels = f'{{class="human",kind="open",result="{result}"}}'
        found += await worker.metric(text + labels)
    assert found == 1

    async def late() -> bool:
        return await worker.metric("campaign_worker_event_loop_lag_seconds_count") > 0

    await eventually(late)


@pytest.mark.parametrize(
    ("hours", "sent", "seen"), [(-2, "-1 hour", "human"), (2, "30 seconds", "prefetch")]
)
async def test_a_tracker_whose_clock_is_wrong_goes_by_that_of_postgres(
    make_site: SiteMaker, hours: int, sent: str, seen: str
) -> None:
    site = make_site(secrets=(SECRET,), env=KEYS)
    (message,) = (await seed(site.database_url, 1)).messages
    async with site.postgres() as connection:
        # What is asked for within seconds of that is asked for by a machine.
        await connection.execute(
            f"UPDATE campaign_worker.messages SET marked_at = now() + interval '{sent}'"
        )
    wrong = WRONG_CLOCK.format(hours=hours)
    worker = await site.ready("tracker", command="track", before=wrong)

    async def told_right() -> bool:
        assert await asked(worker, URLS.open(message)) == 200
        async with site.postgres() as connection:
            found = await connection.fetch("SELECT class FROM campaign_worker.tracking_events")
        return seen in {row["class"] for row in found}

    await eventually(told_right, 10)
    [line] = [line for line in worker.records("tracking") if "clock" in line.get("problem", "")]
    assert abs(line["seconds"] - hours * 3600) <= 1


async def test_a_tracker_takes_what_providers_report(make_site: SiteMaker) -> None:
    secrets = (SECRET, POSTMARK_SECRET)
    site = make_site(secrets=secrets, env=KEYS | {"POSTMARK_WEBHOOK_SECRET": POSTMARK_SECRET})
    worker = await site.ready("tracker", command="track")
    path = "/webhooks/postmark"
    assert await asked(worker, path, "POST", json=POSTMARK_BOUNCE) == 401
    assert (
        await asked(worker, path, "POST", json=POSTMARK_BOUNCE, headers=postmark_headers()) == 200
    )
    async with site.postgres() as connection:
        suppressed = await connection.fetch("SELECT address FROM campaign_worker.suppressions")
    assert [row["address"] for row in suppressed] == [POSTMARK_BOUNCE["Email"].lower()]
    counted = 'campaign_worker_webhooks_total{provider="postmark",result='
    for result in ("forged", "applied"):
        assert await worker.metric(f'{counted}"{result}"}}') == 1


@pytest.mark.parametrize("command", ["run", "track"])
async def test_no_collection_of_garbage_looks_through_what_was_imported(
    make_site: SiteMaker, command: str
) -> None:
    worker = await make_site(env=KEYS).ready(command, command=command, before=COLLECTOR)
    worker.send(signal.SIGTERM)
    assert await worker.ended() == 0
    [line] = [line for line in worker.plain_lines() if line.startswith("passed over")]
    assert int(line.split()[-1]) > 50_000


async def test_a_tracker_without_keys_says_what_is_missing(site: Site) -> None:
    result = await site.cli("track")
    assert result.code == 78
    assert "TRACKING_SIGNING_KEYS" in result.stderr


async def test_a_worker_tracks_too_and_sends_nothing_more_to_who_unsubscribes(
    make_site: SiteMaker,
) -> None:
    env = KEYS | {"TRACKING_BASE_URL": "https://track.example.org"}
    site = make_site(secrets=(SECRET,), env=env)
    campaign = await site.campaign(2, follow_up_seconds=5)
    worker = await site.ready("worker", **env)
    await site.add(campaign)
    await site.accepted(2)
    async with site.postgres() as connection:
        ((message, recipient),) = await connection.fetch(
            "SELECT id, recipient_id FROM campaign_worker.messages WHERE step = 0 LIMIT 1"
        )
    assert await asked(worker, URLS.unsubscribe(message), "POST", data=ONE_CLICK) == 200
    await site.finished(campaign)
    async with site.postgres() as connection:
        rows = await connection.fetch(
            "SELECT state, reason, recipient_id = $1 AS left"
            " FROM campaign_worker.messages WHERE step = 1 ORDER BY 3",
            recipient,
        )
    assert [(row["state"], row["reason"]) for row in rows] == [
        ("sent", None),
        ("skipped", "unsubscribed"),
    ]
    assert len(site.mails_to(campaign)) == 3


@pytest.mark.parametrize("meets", ["the same worker", "the next worker"])
async def test_an_unsubscribe_that_waits_in_redis_comes_before_any_claim(
    make_site: SiteMaker, mortal_postgres: PostgresServer, meets: str
) -> None:
    env = KEYS | {"TRACKING_BASE_URL": "https://track.example.org"}
    site = make_site(database_url=mortal_postgres.url, secrets=(SECRET,), env=env)
    campaign = await site.campaign(2, follow_up_seconds=2)
    worker = await site.ready("worker", before=NO_DRAINER)
    await site.add(campaign)
    await site.accepted(2)
    message = await eventually(lambda: _sent_one(site), 10)
    assert message is not None
    await mortal_postgres.stop("immediate")
    assert await asked(worker, URLS.unsubscribe(message), "POST", data=ONE_CLICK) == 200

    async def claims_wait() -> bool:
        return "postgres" in (await worker.health())["held"]

    await eventually(claims_wait, 15)
    if meets == "the next worker":
        await worker.kill()
        worker = site.start("next", before=NO_DRAINER)
    await mortal_postgres.start()
    await site.finished(campaign, 40)
    async with site.postgres() as connection:
        states = await connection.fetch(
            "SELECT state, reason FROM campaign_worker.messages WHERE step = 1 ORDER BY reason"
        )
    assert [tuple(row) for row in states] == [("skipped", "unsubscribed"), ("sent", None)]
    assert len(site.mails_to(campaign)) == 3


async def _sent_one(site: Site) -> int | None:
    async with site.postgres() as connection:
        rows = await connection.fetch(
            "SELECT id FROM campaign_worker.messages WHERE step = 0 AND state = 'sent'"
        )
    return rows[0]["id"] if len(rows) == 2 else None
