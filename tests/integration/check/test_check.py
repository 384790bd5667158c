"""What `check` says of real servers: good ones, wrong ones, absent ones."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest
import redis.asyncio

from campaign_worker.check import run_checks
from campaign_worker.check.finding import Finding, Level
from campaign_worker.check.postgres import check_postgres
from campaign_worker.check.process import check_drain, check_port
from campaign_worker.check.redis import check_redis
from campaign_worker.check.smtp import check_transport
from campaign_worker.embedded.postgres import SUPERUSER, PostgresServer
from campaign_worker.embedded.redis import RedisServer
from campaign_worker.embedded.smtp_server import SmtpSink
from campaign_worker.settings import Settings
from campaign_worker.slowest import SlowestJobs
from campaign_worker.startup import redis_faults
from metrics import JobEnded
from tests.fixtures.resend import ResendApi
from tests.support import free_port

NOWHERE = "127.0.0.1:1"
RedisMaker = Callable[..., Awaitable[RedisServer]]
SinkMaker = Callable[..., Awaitable[SmtpSink]]
PostgresMaker = Callable[..., Awaitable[PostgresServer]]


def settings(**values: object) -> Settings:
    """Return settings of this test; whatever it does not name is nowhere."""
    known: dict[str, Any] = {
        "redis_url": f"redis://{NOWHERE}",
        "database_url": f"postgresql://u:p@{NOWHERE}/d",
        "smtp_url": f"smtp://{NOWHERE}",
        "mail_from": "news@example.org",
    }
    return Settings.load(env_file=None, **{**known, **values})


def by_item(findings: list[Finding]) -> dict[str, Level]:
    return {finding.item: finding.level for finding in findings}


async def look_at_postgres(url: str, **values: object) -> list[Finding]:
    chosen = settings(database_url=url, **values)
    return await check_postgres("DATABASE_URL", chosen.database_url, chosen)


async def test_a_good_redis_is_fine_and_an_unknown_queue_is_doubted(redis_url: str) -> None:
    found = by_item(await check_redis(settings(redis_url=redis_url)))
    assert found["REDIS_URL"] is Level.OK
    assert found["Redis memory"] is Level.OK
    assert found["Redis persistence"] is Level.OK
    assert found["queue campaign"] is Level.WARNING


async def test_a_queue_is_shown_with_what_it_holds(
    redis_url: str, redis_client: redis.asyncio.Redis, prefix: str
) -> None:
    await redis_client.hset(f"{prefix}:campaign:meta", mapping={"version": "bullmq:5.1.0"})
    await redis_client.rpush(f"{prefix}:campaign:wait", "1", "2")
    found = await check_redis(settings(redis_url=redis_url, bullmq_prefix=prefix))
    assert found[-1].text == "2 waiting, 0 delayed, written by bullmq:5.1.0"
    assert found[-1].level is Level.OK


async def test_a_redis_that_evicts_and_forgets_is_named(own_redis: RedisMaker) -> None:
    server = await own_redis(appendonly=False, settings={"maxmemory-policy": "allkeys-lru"})
    found = by_item(await check_redis(settings(redis_url=server.url)))
    assert found["Redis memory"] is Level.ERROR
    assert found["Redis persistence"] is Level.WARNING


async def test_a_replica_is_named(own_redis: RedisMaker) -> None:
    primary = await own_redis()
    replica = await own_redis(settings={"replicaof": f"127.0.0.1 {primary.port}"})
    found = await check_redis(settings(redis_url=replica.url))
    assert [each.text for each in found if each.item == "REDIS_URL"] == [
        "this is a read-only replica"
    ]


def test_a_redis_that_is_too_old_is_named() -> None:
    (fault,) = redis_faults({"redis_version": "6.0.16", "maxmemory_policy": "noeviction"})
    assert fault.text == "Redis 6.0.16 is too old for BullMQ"
    assert redis_faults({"redis_version": "6.2.0", "maxmemory_policy": "noeviction"}) == []


async def test_a_wrong_redis_password_is_a_refused_login(own_redis: RedisMaker) -> None:
    server = await own_redis(password="right")
    for login in ("", ":wrong@"):
        url = f"redis://{login}127.0.0.1:{server.port}"
        (finding,) = await check_redis(settings(redis_url=url))
        assert finding.level is Level.REFUSED
        assert "wrong" not in finding.text.replace("wrong password", "")


async def test_an_absent_redis_is_an_error() -> None:
    (finding,) = await check_redis(settings())
    assert finding.level is Level.ERROR
    assert finding.mend


async def test_a_migrated_database_is_fine(database_url: str) -> None:
    found = by_item(await look_at_postgres(database_url))
    assert set(found.values()) == {Level.OK}


async def test_an_empty_database_needs_a_migration(empty_database_url: str) -> None:
    found = await look_at_postgres(empty_database_url)
    (finding,) = [each for each in found if each.level is Level.ERROR]
    assert finding.mend == "run: campaign-worker migrate"


async def test_a_newer_schema_is_doubted_as_it_serves_after_a_rollback(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(
            "INSERT INTO campaign_worker.schema_migrations VALUES (999, 'later', 'digest')"
        )
    finally:
        await connection.close()
    found = by_item(await look_at_postgres(database_url))
    assert found["schema campaign_worker"] is Level.WARNING


async def test_a_user_who_may_only_read_is_told_what_to_grant(database_url: str) -> None:
    user = f"reader_{secrets.token_hex(4)}"
    reaching = database_url.replace(f"//{SUPERUSER}@", f"//{user}@")
    owner = await asyncpg.connect(database_url)
    try:
        await owner.execute(f"CREATE USER {user}")
        (finding,) = await look_at_postgres(reaching)
        assert "permission denied for schema campaign_worker" in finding.text
        await owner.execute(
            f"GRANT USAGE ON SCHEMA campaign_worker TO {user};"
            f"GRANT SELECT ON ALL TABLES IN SCHEMA campaign_worker TO {user}"
        )
        (finding,) = [each for each in await look_at_postgres(reaching) if each.mend]
        assert finding.level is Level.ERROR
        named = "campaign_counts, campaigns, campaigns_id_seq and "
        assert finding.text.startswith(f"{user} may not use {named}")
        # What it says is what mends it.
        await owner.execute(finding.mend.partition(": ")[2])
        assert set(by_item(await look_at_postgres(reaching)).values()) == {Level.OK}
    finally:
        await owner.execute(f"DROP OWNED BY {user}; DROP USER {user}")
        await owner.close()


async def test_an_unknown_database_is_a_refused_login(postgres_server: PostgresServer) -> None:
    (finding,) = await look_at_postgres(postgres_server.database_url("nobodys"))
    assert finding.level is Level.REFUSED


async def test_a_wrong_postgres_password_is_a_refused_login(own_postgres: PostgresMaker) -> None:
    server = await own_postgres(password="right")
    (finding,) = await look_at_postgres(server.url.replace(":right@", ":hidden-word@"))
    assert finding.level is Level.REFUSED
    assert "hidden-word" not in finding.text


async def test_an_absent_postgres_is_an_error() -> None:
    (finding,) = await look_at_postgres(f"postgresql://u:p@{NOWHERE}/d")
    assert finding.level is Level.ERROR


@pytest.mark.parametrize(
    ("pooler", "level"), [("session", Level.WARNING), ("transaction", Level.OK)]
)
async def test_a_host_that_looks_like_a_poolers_is_doubted_in_session_mode(
    database_url: str, pooler: str, level: Level
) -> None:
    chosen = settings(database_url="postgresql://u:p@pgbouncer/d", database_pooler=pooler)
    reached = settings(database_url=database_url).database_url
    found = by_item(await check_postgres("DATABASE_URL", reached, chosen))
    assert found["DATABASE_POOLER"] is level


async def test_a_taken_port_is_an_error_and_a_free_one_is_not() -> None:
    assert by_item(await check_port(free_port())) == {"PORT": Level.OK}
    with socket.create_server(("0.0.0.0", 0)) as taken:  # noqa: S104 -- as the worker binds
        assert by_item(await check_port(taken.getsockname()[1])) == {"PORT": Level.ERROR}


def test_a_doubtful_drain_window_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAILWAY_SERVICE_ID", "service")
    assert by_item(check_drain(settings())) == {"drain": Level.WARNING}
    (finding,) = check_drain(settings(railway_deployment_draining_seconds=60))
    assert finding.text == "60 s, of which a stop uses 57 s"


async def test_an_smtp_server_that_accepts_the_login_is_fine(own_sink: SinkMaker) -> None:
    sink = await own_sink(credentials=("mailer", "right"))
    chosen = settings(smtp_url=sink.url, ehlo_name="worker.example.org")
    found = await check_transport("default", chosen.transports["default"], chosen, 5)
    assert by_item(found) == {"transport default": Level.OK}
    assert sink.mails == []


async def test_a_wrong_smtp_password_is_a_refused_login(own_sink: SinkMaker) -> None:
    sink = await own_sink(credentials=("mailer", "right"))
    chosen = settings(smtp_url=sink.url.replace(":right@", ":hidden-word@"))
    (finding,) = await check_transport("default", chosen.transports["default"], chosen, 5)
    assert finding.level is Level.REFUSED
    assert "hidden-word" not in finding.text


@pytest.mark.parametrize(
    ("setting", "variable"), [("smtp_url", "SMTP_URL"), ("named_smtp_urls", "SMTP_URL_BULK")]
)
async def test_an_smtp_url_that_run_would_refuse_is_named_by_its_variable(
    setting: str, variable: str
) -> None:
    url = f"smtp://{NOWHERE}?starttls=true"
    chosen = settings(**{setting: url if setting == "smtp_url" else {variable: url}})
    ((name, wrong),) = [one for one in chosen.transports.items() if "starttls" in str(one[1])]
    (finding,) = await check_transport(name, wrong, chosen, 5)
    assert (finding.item, finding.level) == (variable, Level.ERROR)
    assert "unknown option 'starttls'" in finding.text


async def test_an_absent_smtp_server_on_railway_is_told_about_its_plans() -> None:
    chosen = settings(railway_service_id="service")
    (finding,) = await check_transport("default", chosen.transports["default"], chosen, 5)
    assert finding.level is Level.ERROR
    assert "Pro plan" in finding.mend


async def test_silent_servers_hold_nobody_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        where = f"127.0.0.1:{silent.getsockname()[1]}"
        chosen = settings(
            redis_url=f"redis://{where}",
            database_url=f"postgresql://u:p@{where}/d",
            smtp_url=f"smtp://{where}",
            port=free_port(),
        )
        found = by_item(list(await run_checks(chosen, bound_seconds=0.5)))
    for item in ("REDIS_URL", "DATABASE_URL", "transport default"):
        assert found[item] is Level.ERROR


@pytest.mark.parametrize(
    ("window", "level", "mend"),
    [(30, Level.OK, ""), (29, Level.WARNING, "set DRAIN_SECONDS to 30 and deploy again")],
)
async def test_the_drain_window_is_compared_with_the_slowest_job_that_workers_saw(
    redis_url: str, prefix: str, window: int, level: Level, mend: str
) -> None:
    client = redis.asyncio.Redis.from_url(redis_url)
    slowest = SlowestJobs(client, prefix)
    slowest.on_event(JobEnded("campaign", "send-email", "completed", 0.2))
    slowest.on_event(JobEnded("news", "send-email", "handed back", 11.9))
    await slowest.write()
    await client.aclose()
    found = await check_redis(
        settings(redis_url=redis_url, bullmq_prefix=prefix, drain_seconds=window)
    )
    (finding,) = [one for one in found if one.item == "slowest job"]
    assert (finding.level, finding.mend) == (level, mend)
    assert finding.text.startswith("11.9 s in queue news")


@pytest.mark.parametrize(
    ("image", "named"),
    [
        (60, "RAILWAY_DEPLOYMENT_DRAINING_SECONDS and DRAIN_SECONDS"),
        (None, "RAILWAY_DEPLOYMENT_DRAINING_SECONDS"),
    ],
)
async def test_on_railway_each_number_is_named_that_would_keep_the_window_small(
    redis_url: str, prefix: str, image: int | None, named: str
) -> None:
    client = redis.asyncio.Redis.from_url(redis_url)
    slowest = SlowestJobs(client, prefix)
    slowest.on_event(JobEnded("campaign", "send-email", "completed", 40.0))
    await slowest.write()
    await client.aclose()
    window = {"drain_seconds": image, "railway_deployment_draining_seconds": 60}
    chosen = settings(redis_url=redis_url, bullmq_prefix=prefix, railway_service_id="s", **window)
    (finding,) = [one for one in await check_redis(chosen) if one.item == "slowest job"]
    assert finding.mend == f"set {named} to 100 and deploy again"


async def test_without_any_job_seen_there_is_nothing_to_recommend(redis_url: str) -> None:
    assert by_item(await check_redis(settings(redis_url=redis_url)))["slowest job"] is Level.OK


@pytest.mark.parametrize("restricted", [False, True])
async def test_a_resend_key_that_may_send_is_fine(resend_api: ResendApi, restricted: bool) -> None:
    resend_api.restricted = restricted
    chosen = settings(smtp_url=resend_api.url)
    (finding,) = await check_transport("default", chosen.transports["default"], chosen, 5)
    assert finding.level is Level.OK
    assert ("may only send" in finding.text) is restricted
    assert resend_api.mails == []


async def test_a_wrong_resend_key_is_a_refused_login(resend_api: ResendApi) -> None:
    chosen = settings(smtp_url=resend_api.url_with("hidden-word"))
    (finding,) = await check_transport("default", chosen.transports["default"], chosen, 5)
    assert finding.level is Level.REFUSED
    assert "hidden-word" not in finding.text + finding.mend


async def test_an_absent_api_is_told_with_the_form_of_its_url() -> None:
    chosen = settings(smtp_url=f"resend+http://:k@{NOWHERE}")
    (finding,) = await check_transport("default", chosen.transports["default"], chosen, 5)
    assert finding.level is Level.ERROR
    assert "resend+https://" in finding.mend
