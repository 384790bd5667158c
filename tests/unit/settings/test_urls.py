"""URLs as apps and platforms write them, and what our drivers get of them."""

from __future__ import annotations

import asyncpg.connect_utils
import pytest
import redis.asyncio
from hypothesis import example, given
from hypothesis import strategies as st

from campaign_worker.queue import ConnectionSpec
from campaign_worker.settings import urls
from campaign_worker.settings.kinds import Wrong


@pytest.mark.parametrize(
    ("given_url", "expected"),
    [
        ("redis://h:1?family=0", "redis://h:1"),
        ("redis://u:p@h:6379/2?family=0&db=3", "redis://u:p@h:6379/2?db=3"),
        ("rediss://:p@h?ssl_cert_reqs=none", "rediss://:p@h?ssl_cert_reqs=none"),
        ("unix:///run/redis.sock?db=1", "unix:///run/redis.sock?db=1"),
        ("redis://[::1]:6379/0", "redis://[::1]:6379/0"),
        ("REDIS://h", "redis://h"),
        (
            "redis://h?db=2&socket_timeout=5&max_connections=9&protocol=3",
            "redis://h?db=2&protocol=3",
        ),
    ],
)
def test_redis_urls_keep_what_the_driver_knows(given_url: str, expected: str) -> None:
    url = urls.redis_url(given_url).get_secret_value()
    assert url == expected
    assert redis.asyncio.ConnectionPool.from_url(url)
    assert ConnectionSpec.of(url)


def test_what_only_other_clients_of_redis_are_told_is_left_out_and_named() -> None:
    url = urls.redis_url("rediss://h?family=0&ssl_cert_reqs=none&max_connections=9&retryStrategy=x")
    assert url.ignored == ("max_connections", "retryStrategy")


@pytest.mark.parametrize(
    ("given_url", "expected"),
    [
        ("postgres://u:p@h:5432/d", "postgres://u:p@h:5432/d"),
        ("postgresql+asyncpg://u:p@h/d", "postgresql://u:p@h/d"),
        ("postgres://h/d?schema=public&connection_limit=5&pgbouncer=true", "postgres://h/d"),
        ("postgres://h/d?sslmode=no-verify", "postgres://h/d?sslmode=require"),
        ("postgres://h/d?ssl=true", "postgres://h/d?sslmode=require"),
        ("postgres://h/d?ssl=false", "postgres://h/d?sslmode=disable"),
        ("postgres://h/d?sslmode=verify-full", "postgres://h/d?sslmode=verify-full"),
        ("postgres://u@/d?host=/run/pg", "postgres://u@/d?host=%2Frun%2Fpg"),
        ("postgres://a:1,b:2/d", "postgres://a:1,b:2/d"),
    ],
)
def test_database_urls_keep_what_the_driver_knows(given_url: str, expected: str) -> None:
    assert urls.database_url(given_url).get_secret_value() == expected


def test_a_database_url_gives_the_driver_no_stranger_for_a_run_time_parameter() -> None:
    url = urls.database_url(
        "postgres://u:p@h/d?schema=x&pgbouncer=true&sslmode=disable&channel_binding=require"
        "&connect_timeout=5&application_name=app&options=-c%20statement_timeout%3D5000"
    )
    _, parameters = asyncpg.connect_utils._parse_connect_dsn_and_args(
        dsn=url.get_secret_value(),
        host=None,
        port=None,
        user=None,
        password=None,
        passfile=None,
        database=None,
        ssl=None,
        service=None,
        servicefile=None,
        direct_tls=None,
        server_settings=None,
        target_session_attrs=None,
        krbsrvname=None,
        gsslib=None,
    )
    assert parameters.server_settings == {
        "application_name": "app",
        "options": "-c statement_timeout=5000",
    }


@pytest.mark.parametrize(
    "text",
    [
        *("", "redis", "http://h", "redis://", "redis://:p@", "redis://h:x", "redis://h:70000"),
        *("redis://h/zero", "unix://", "redis://u:p/q@h", "redis://u:p#q@h", "redis://u:p?q@h"),
        *("redis://h?db=two", "redis://h?db=", "redis://h?db=²", "redis://h?protocol=9"),
        *("rediss://h?ssl_cert_reqs=maybe", "unix:///run/redis.sock?db=-1"),
    ],
)
def test_wrong_redis_urls_are_refused(text: str) -> None:
    with pytest.raises(Wrong):
        urls.redis_url(text)


@pytest.mark.parametrize(
    "text",
    [
        *("mysql://h/d", "prisma://h", "postgres:///d", "postgres://h/d?sslmode=maybe"),
        *("postgres://h/d?target_session_attrs=first", "postgres://h/d?sslnegotiation=never"),
        *("postgres://h/d?ssl_min_protocol_version=1.2", "postgres:///d?host=/run/pg&port=x"),
    ],
)
def test_wrong_database_urls_are_refused(text: str) -> None:
    with pytest.raises(Wrong):
        urls.database_url(text)


@pytest.mark.parametrize(
    "text", ["mail:25", "smtp://", "smtp://h:0", "smtp://user@h", "smtp://h/path", "smtp://u:p@:25"]
)
def test_wrong_smtp_urls_are_refused(text: str) -> None:
    with pytest.raises(Wrong):
        urls.transport_url(text)


@given(
    st.sampled_from([urls.redis_url, urls.database_url, urls.transport_url]),
    st.sampled_from(["redis", "postgres", "smtp"]),
    st.text("abcXYZ0189-._~!$&'()*+,;=%/?#@:[]", max_size=20),
)
@example(urls.redis_url, "redis", ":1?db=")
def test_a_password_never_shows_in_what_is_said_about_a_url(
    reader: object, scheme: str, noise: str
) -> None:
    secret = "hunter2hunter2"
    text = f"{scheme}://user:{secret}{noise}{secret}@host:6000/0"
    assert callable(reader)
    try:
        said = str(reader(text))
    except Wrong as error:
        said = f"{error} {error.mend}"
    assert secret not in said
