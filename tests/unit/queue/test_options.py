"""Options: Node's names in, one checked value out, nothing ignored."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
import redis.asyncio

from campaign_worker.errors import SettingsError, UnsupportedOption
from campaign_worker.queue import ConnectionSpec, Worker, WorkerOptions
from campaign_worker.queue.options import Limiter, keep_jobs


async def _processor(job: object, token: str) -> None:
    """Do nothing."""


def test_defaults_are_nodes() -> None:
    options = WorkerOptions.parse(None)
    assert (options.concurrency, options.lock_duration_ms, options.stalled_interval_ms) == (
        1,
        30_000,
        30_000,
    )
    assert (options.drain_delay_seconds, options.max_stalled_count, options.prefix) == (
        5,
        1,
        "bull",
    )
    assert options.connection == ConnectionSpec()


def test_every_honoured_option_is_read() -> None:
    options = WorkerOptions.parse(
        {
            "concurrency": 7,
            "lockDuration": 1000,
            "lockRenewTime": 400,
            "stalledInterval": 500,
            "maxStalledCount": 2,
            "maxStartedAttempts": 9,
            "skipStalledCheck": True,
            "skipLockRenewal": True,
            "drainDelay": 0.5,
            "removeOnComplete": 100,
            "removeOnFail": {"age": 60},
            "limiter": {"max": 3, "duration": 1000},
            "metrics": {"maxDataPoints": 60},
            "name": "anna",
            "autorun": False,
            "prefix": "app",
            "connection": "redis://h:1/2",
        }
    )
    assert options.concurrency == 7
    assert (options.lock_duration_ms, options.lock_renew_time_ms) == (1000, 400)
    assert (options.keep_completed, options.keep_failed) == ({"count": 100}, {"age": 60})
    assert options.limiter == Limiter(3, 1000)
    assert options.max_metrics_points == 60
    assert options.connection == ConnectionSpec(host="h", port=1, db=2)


def test_the_renewal_window_follows_the_lock_unless_given() -> None:
    assert WorkerOptions.parse({"lockDuration": 1000}).lock_renew_time_ms == 500


@pytest.mark.parametrize(
    ("opts", "named"),
    [
        ({"telemetry": object()}, "telemetry"),
        ({"useWorkerThreads": True}, "useWorkerThreads"),
        ({"runRetryDelay": 100}, "runRetryDelay"),
        ({"nobodyKnows": 1}, "nobodyKnows"),
        ({"settings": {"other": len}}, "settings.other"),
        ({"connection": {"host": "h", "retryStrategy": len}}, "connection.retryStrategy"),
        ({"connection": "redis://h?client_name=x"}, "connection.client_name"),
        ({"connection": {"tls": {"ca": "x"}}}, "connection.tls"),
    ],
)
def test_an_option_that_is_not_honoured_is_refused_by_name(
    opts: dict[str, Any], named: str
) -> None:
    with pytest.raises(UnsupportedOption) as refused:
        Worker("mails", _processor, opts)
    assert refused.value.setting == named


@pytest.mark.parametrize(
    ("opts", "reason"),
    [
        ({"useWorkerThreads": True}, "no sandboxes"),
        ({"workerForkOptions": {}}, "no sandboxes"),
        ({"telemetry": object()}, "JavaScript interface"),
    ],
)
def test_what_only_node_can_have_is_refused_with_a_reason(
    opts: dict[str, Any], reason: str
) -> None:
    with pytest.raises(UnsupportedOption, match=reason):
        Worker("mails", _processor, opts)
    with pytest.raises(UnsupportedOption, match="no sandboxes"):
        Worker("mails", "processor.js", {})  # type: ignore[arg-type]  # as a user may


@pytest.mark.parametrize(
    ("opts", "named"),
    [
        ({"concurrency": 0}, "concurrency"),
        ({"concurrency": 1.5}, "concurrency"),
        ({"concurrency": True}, "concurrency"),
        ({"stalledInterval": 0}, "stalledInterval"),
        ({"maxStalledCount": -1}, "maxStalledCount"),
        ({"drainDelay": 0}, "drainDelay"),
        ({"lockRenewTime": 40_000}, "lockRenewTime"),
        ({"limiter": {"max": 0, "duration": 1}}, "limiter"),
        ({"limiter": {"max": 1}}, "limiter"),
        ({"limiter": {"max": 1, "duration": 1, "groupKey": "x"}}, "limiter"),
        ({"removeOnFail": "all"}, "removeOnComplete/removeOnFail"),
        ({"connection": 3}, "connection"),
        ({"connection": "http://h"}, "connection"),
        ({"connection": "redis://h:99999"}, "connection"),
        ({"connection": "redis://h/db"}, "connection.db"),
        ({"settings": {"backoffStrategy": 3}}, "settings.backoffStrategy"),
    ],
)
def test_a_wrong_value_is_refused_by_name(opts: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingsError) as refused:
        WorkerOptions.parse(opts)
    assert refused.value.setting == named


@pytest.mark.parametrize("name", ["", "a:b"])
def test_a_queue_name_that_bullmq_refuses_is_refused(name: str) -> None:
    with pytest.raises(SettingsError):
        Worker(name, _processor, {"autorun": False})


@pytest.mark.parametrize(
    ("value", "keeps"),
    [
        (None, None),
        (True, {"count": 0}),
        (False, {"count": -1}),
        (5, {"count": 5}),
        ({"age": 9, "count": 2}, {"age": 9, "count": 2}),
    ],
)
def test_remove_options_take_every_form_of_bullmq(value: Any, keeps: Any) -> None:
    assert keep_jobs(value) == keeps


def test_a_url_gives_everything_that_it_says() -> None:
    spec = ConnectionSpec.of("rediss://anna:s%40cret@h.example:7000/3?family=0")
    assert spec == ConnectionSpec(
        host="h.example", port=7000, db=3, username="anna", password="s@cret", tls=True
    )


def test_a_url_may_name_a_socket_or_switch_off_tls_checks() -> None:
    assert ConnectionSpec.of("unix:///run/redis.sock?db=2") == ConnectionSpec(
        path="/run/redis.sock", db=2
    )
    spec = ConnectionSpec.of("rediss://h?ssl_cert_reqs=none")
    assert spec.tls_options == {"ssl_cert_reqs": ssl.CERT_NONE, "ssl_check_hostname": False}


def test_what_bullmq_asks_of_ioredis_is_granted() -> None:
    given = {"host": "h", "port": "7", "maxRetriesPerRequest": None, "family": 6, "tls": {}}
    assert ConnectionSpec.of(given) == ConnectionSpec(host="h", port=7, tls=True)


def test_a_client_lends_its_address_and_not_its_connections() -> None:
    client = redis.asyncio.Redis.from_url("redis://anna:secret@h:7000/3")
    assert ConnectionSpec.of(client) == ConnectionSpec(
        host="h", port=7000, db=3, username="anna", password="secret"
    )


def test_a_password_is_never_shown() -> None:
    assert "secret" not in repr(WorkerOptions.parse({"connection": "redis://:secret@h"}))


@pytest.mark.parametrize(
    ("connection", "nodes"),
    [
        ({"cluster": [{"host": "a", "port": 7000}, {"host": "b"}]}, (("a", 7000), ("b", 6379))),
        ({"host": "a", "port": 7000, "cluster": True}, (("a", 7000),)),
        ("rediss://anna:secret@a:7000?cluster=true", (("a", 7000),)),
        ({"host": "a", "cluster": False}, ()),
        ("redis://a?cluster=false", ()),
    ],
)
def test_a_cluster_is_named_by_its_nodes(
    connection: Any, nodes: tuple[tuple[str, int], ...]
) -> None:
    spec = ConnectionSpec.of(connection)
    assert spec.nodes == nodes
    if nodes:
        one = spec.node("c", 7001)
        assert (one.host, one.port, one.nodes) == ("c", 7001, ())
        assert (one.tls, one.username, one.password) == (spec.tls, spec.username, spec.password)


@pytest.mark.parametrize(
    "connection",
    [
        {"cluster": [{"port": 7000}]},
        {"cluster": [{"host": "a", "port": "x"}]},
        {"cluster": ["a:7000"]},
        {"cluster": []},
        {"cluster": True, "db": 3},
        {"cluster": True, "path": "/run/redis.sock"},
        "redis://a/3?cluster=1",
    ],
)
def test_what_names_no_cluster_is_refused(connection: Any) -> None:
    with pytest.raises(SettingsError) as refused:
        ConnectionSpec.of(connection)
    assert refused.value.setting == "connection.cluster"
