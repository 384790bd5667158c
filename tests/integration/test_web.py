from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import socket
import sys
import time
from typing import TYPE_CHECKING

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from campaign_worker.errors import SettingsError
from campaign_worker.state import Lifecycle, WorkerState
from campaign_worker.web import Health, WebServer, listening_sockets
from metrics import Exposition, PrometheusListener
from shutdown.testing import stress
from tests.support import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Worker:
    """A health source whose state a test can set."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.lifecycle = Lifecycle(PrometheusListener(self.registry))
        self.in_flight = 0
        self.age: float | None = None
        self.held: tuple[str, ...] = ()

    def health(self) -> Health:
        return Health(
            state=self.lifecycle.state,
            consumed=self.lifecycle.consumed,
            in_flight=self.in_flight,
            last_claim_age_seconds=self.age,
            held=self.held,
            version="1.2.3",
            instance="replica-1",
        )


class Client:
    def __init__(self, server: WebServer, session: aiohttp.ClientSession) -> None:
        self._server = server
        self._session = session

    async def get(self, path: str, host: str = "127.0.0.1") -> tuple[int, str]:
        url = f"http://{host}:{self._server.port}{path}"
        async with self._session.get(url) as response:
            return response.status, await response.text()

    async def json(self, path: str) -> dict[str, object]:
        url = f"http://127.0.0.1:{self._server.port}{path}"
        async with self._session.get(url) as response:
            document: dict[str, object] = await response.json()
            return document


@pytest.fixture
def worker() -> Worker:
    return Worker()


@pytest.fixture
async def client(worker: Worker) -> AsyncIterator[Client]:
    server = WebServer(0, worker, Exposition(worker.registry))
    await server.start()
    try:
        async with aiohttp.ClientSession() as session:
            yield Client(server, session)
    finally:
        await server.stop()


def has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as sock:
        sock.bind(("::1", 0))
        return True
    return False


@pytest.mark.parametrize("path", ["/health", "/api/health"])
async def test_health_is_200_from_the_first_consuming_to_the_end_of_the_drain(
    client: Client, worker: Worker, path: str
) -> None:
    codes = [(await client.get(path))[0]]
    for state in (WorkerState.READY, WorkerState.DRAINING, WorkerState.STOPPED):
        worker.lifecycle.to(state)
        codes.append((await client.get(path))[0])

    assert codes == [503, 200, 200, 503]


async def test_a_worker_that_is_stopped_while_starting_is_never_healthy(
    client: Client, worker: Worker
) -> None:
    worker.lifecycle.to(WorkerState.DRAINING)

    assert (await client.get("/health"))[0] == 503


async def image_s_health_check(port: int) -> int:
    """Return the exit code of what the Dockerfile's HEALTHCHECK runs."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "campaign_worker.healthcheck"), env={"PORT": str(port)}
    )
    async with asyncio.timeout(20):
        return await process.wait()


async def test_the_image_s_health_check_says_what_health_says(
    client: Client, worker: Worker
) -> None:
    codes = [await image_s_health_check(client._server.port)]
    for state in (WorkerState.READY, WorkerState.DRAINING, WorkerState.STOPPED):
        worker.lifecycle.to(state)
        codes.append(await image_s_health_check(client._server.port))
    assert codes == [1, 0, 0, 1]


async def test_the_image_s_health_check_fails_where_nobody_answers() -> None:
    assert await image_s_health_check(free_port()) == 1


async def test_ready_is_200_only_while_jobs_are_taken(client: Client, worker: Worker) -> None:
    codes = [(await client.get("/ready"))[0]]
    for state in (WorkerState.READY, WorkerState.DRAINING):
        worker.lifecycle.to(state)
        codes.append((await client.get("/ready"))[0])

    assert codes == [503, 200, 503]


async def test_health_says_what_the_worker_knows(client: Client, worker: Worker) -> None:
    worker.lifecycle.to(WorkerState.READY)
    worker.in_flight, worker.age, worker.held = 7, 2.5, ("database",)

    document = await client.json("/health")

    claimed_at = dt.datetime.fromisoformat(str(document.pop("last_claim_at")))
    assert 2.5 <= (dt.datetime.now(dt.UTC) - claimed_at).total_seconds() < 7.5
    assert document == {
        "state": "ready",
        "in_flight": 7,
        "last_claim_age_seconds": 2.5,
        "held": ["database"],
        "version": "1.2.3",
        "instance": "replica-1",
    }


async def test_before_the_first_claim_there_is_no_time_of_it(client: Client) -> None:
    document = await client.json("/health")

    assert document["last_claim_at"] is None
    assert document["last_claim_age_seconds"] is None


async def test_metrics_are_served_with_the_state_of_the_worker(
    client: Client, worker: Worker
) -> None:
    worker.lifecycle.to(WorkerState.READY)

    status, text = await client.get("/metrics")

    assert status == 200
    assert 'campaign_worker_state{state="ready"} 1.0' in text
    assert 'campaign_worker_state{state="starting"} 0.0' in text


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")
async def test_both_ip_families_are_served_on_one_port(client: Client, worker: Worker) -> None:
    worker.lifecycle.to(WorkerState.READY)

    assert [(await client.get("/health", host))[0] for host in ("127.0.0.1", "[::1]")] == [200, 200]


async def test_any_host_name_is_answered(client: Client, worker: Worker) -> None:
    worker.lifecycle.to(WorkerState.READY)
    url = f"http://127.0.0.1:{client._server.port}/health"
    async with client._session.get(url, headers={"Host": "healthcheck.railway.app"}) as response:
        assert response.status == 200


async def test_a_port_in_use_is_an_error_that_names_the_setting(worker: Worker) -> None:
    with socket.create_server(("0.0.0.0", 0)) as taken:  # noqa: S104 - the port must be taken as the server takes it
        port = taken.getsockname()[1]
        server = WebServer(port, worker, Exposition(worker.registry))

        with pytest.raises(SettingsError, match=f"PORT: port {port} is already in use") as caught:
            await server.start()

    assert caught.value.setting == "PORT"
    await server.start()
    assert server.port == port
    await server.stop()


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")
async def test_a_port_in_use_in_one_family_only_leaves_nothing_bound_in_the_other() -> None:
    with socket.socket(socket.AF_INET6) as taken:
        taken.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        taken.bind(("::", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with pytest.raises(SettingsError, match="already in use"):
            listening_sockets(port)

        with socket.create_server(("0.0.0.0", port)) as free:  # noqa: S104 - as the server binds
            assert free.getsockname()[1] == port


async def test_the_server_passes_the_stress_test_of_services(worker: Worker) -> None:
    await stress(lambda: WebServer(0, worker, Exposition(worker.registry)))

    assert worker.lifecycle.state is WorkerState.STARTING


async def test_a_stop_is_bounded_whatever_a_client_does(worker: Worker) -> None:
    server = WebServer(0, worker, Exposition(worker.registry))
    await server.start()
    idle = await asyncio.open_connection("127.0.0.1", server.port)
    half = await asyncio.open_connection("127.0.0.1", server.port)
    half[1].write(b"GET /health HTTP/1.1\r\nHost: x\r\n")
    await half[1].drain()

    began = time.monotonic()
    await server.stop()

    assert time.monotonic() - began < 3
    for reader, writer in (idle, half):
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", server.port)


def test_the_life_of_a_worker_has_no_way_back() -> None:
    lifecycle = Worker().lifecycle
    lifecycle.to(WorkerState.READY)
    lifecycle.to(WorkerState.DRAINING)
    lifecycle.to(WorkerState.DRAINING)

    with pytest.raises(ValueError, match="draining cannot become ready"):
        lifecycle.to(WorkerState.READY)
    assert lifecycle.state is WorkerState.DRAINING
