"""Every way to reach Redis: password, ACL user, Unix socket, another database, another prefix."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import redis.asyncio

from campaign_worker.errors import CredentialsRefused, EmbeddedServerError
from campaign_worker.queue import Worker
from tests.integration.queue.conftest import QUEUE, Events, Inspector
from tests.support import eventually, free_port

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from campaign_worker.embedded.redis import RedisServer
    from campaign_worker.queue import Job
    from tests.fixtures.smtp import Certificate

    MakeRedis = Callable[..., Awaitable[RedisServer]]


async def _process(job: Job, token: str) -> str:
    return "done"


async def _one_job(worker: Worker, client: redis.asyncio.Redis, prefix: str) -> None:
    """Let a worker with short locks do a job, so that its renewing thread connects as well."""
    renewed = Events(worker, "locksRenewed")
    queue = Inspector(client, prefix)
    await queue.add()

    async def done() -> bool:
        return await queue.counts() == {"completed": 1} and bool(renewed.seen)

    try:
        await eventually(done)
    finally:
        await worker.close()
        await client.aclose()


def _opts(**more: Any) -> dict[str, Any]:
    return {"lockDuration": 400, "skipStalledCheck": True, **more}


@pytest.mark.parametrize("user", [None, "mailer"])
async def test_a_password_and_an_acl_user_are_honoured(
    own_redis: MakeRedis, user: str | None
) -> None:
    server = await own_redis(password="p@ss:word")
    client = redis.asyncio.Redis.from_url(server.url, decode_responses=True)
    url = server.url
    if user:
        await client.acl_setuser(
            user, enabled=True, passwords=["+other"], categories=["+@all"], keys=["app:*"]
        )
        url = f"redis://{user}:other@127.0.0.1:{server.port}/0"
    worker = Worker(QUEUE, _gated(), _opts(connection=url, prefix="app"))
    await _one_job(worker, client, "app")


async def test_a_unix_socket_will_do(own_redis: MakeRedis, tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    await own_redis(settings={"unixsocket": str(path)})
    client = redis.asyncio.Redis(unix_socket_path=str(path), db=2, decode_responses=True)
    worker = Worker(QUEUE, _gated(), _opts(connection=f"unix://{path}?db=2"))
    await _one_job(worker, client, "bull")


@pytest.fixture
async def tls_redis(own_redis: MakeRedis, certificate: Certificate) -> tuple[RedisServer, int]:
    """Return a server and its TLS port."""
    port, file = free_port(), str(certificate.file)
    settings = {"tls-port": str(port), "tls-auth-clients": "no"}
    files = dict.fromkeys(("tls-cert-file", "tls-key-file", "tls-ca-cert-file"), file)
    try:
        return await own_redis(password="s3cret", settings=settings | files), port
    except EmbeddedServerError as error:
        if "tls" not in str(error).lower():
            raise
        pytest.skip("this Redis was built without TLS")


@pytest.mark.parametrize("form", ["url", "options", "client"])
async def test_tls_will_do_with_a_certificate_that_is_checked(
    tls_redis: tuple[RedisServer, int], certificate: Certificate, form: str
) -> None:
    _, port = tls_redis
    ca = str(certificate.file)
    url = f"rediss://:s3cret@localhost:{port}/0?ssl_ca_certs={ca}"
    client = redis.asyncio.Redis.from_url(url, decode_responses=True)
    options = {"host": "localhost", "port": port, "password": "s3cret", "tls": {}}
    given: dict[str, Any] = {
        "url": url,
        "options": {**options, "ssl_ca_certs": ca},
        "client": client,
    }
    worker = Worker(QUEUE, _gated(), _opts(connection=given[form]))
    await _one_job(worker, client, "bull")


async def test_a_certificate_that_nobody_vouches_for_is_refused(
    tls_redis: tuple[RedisServer, int],
) -> None:
    _, port = tls_redis
    worker = Worker(QUEUE, _process, {"connection": f"rediss://:s3cret@localhost:{port}/0"})
    events = Events(worker, "error", "ready")
    await eventually(lambda: events.of("error"))
    assert "certificate verify failed" in str(events.of("error")[0][0]).lower()
    await worker.close()
    assert not events.of("ready")


async def test_a_client_and_node_options_will_do(redis_url: str, prefix: str) -> None:
    for number, connection in enumerate((redis.asyncio.Redis.from_url(redis_url), None)):
        client = redis.asyncio.Redis.from_url(redis_url, decode_responses=True)
        port = int(redis_url.rsplit(":", 1)[1].split("/", maxsplit=1)[0])
        given = connection or {"host": "127.0.0.1", "port": port, "db": 1, "family": 4}
        own = f"{prefix}:{number}"
        worker = Worker(QUEUE, _gated(), _opts(connection=given, prefix=own))
        await _one_job(worker, client, own)


async def test_a_wrong_password_is_said_and_tried_again(own_redis: MakeRedis) -> None:
    server = await own_redis(password="right")
    worker = Worker(QUEUE, _process, {"connection": f"redis://:wrong@127.0.0.1:{server.port}"})
    events = Events(worker, "error")
    await eventually(lambda: events.seen)
    assert isinstance(events.of("error")[0][0], CredentialsRefused)
    admin = redis.asyncio.Redis.from_url(server.url)
    await admin.config_set("requirepass", "wrong")
    await asyncio.wait_for(worker.wait_until_ready(), 3)
    await worker.close()
    await admin.aclose()


def _gated() -> Any:
    """Return a processor that ends once its lock has been renewed."""

    async def process(job: Job, token: str, signal: Any) -> str:
        first = signal.valid_until
        await eventually(lambda: signal.valid_until != first)
        return "done"

    return process
