"""Every service of the product keeps the contract of start and stop."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from prometheus_client import CollectorRegistry

from campaign_worker.assembly import Parts
from campaign_worker.settings import Settings
from campaign_worker.state import WorkerState
from campaign_worker.web import Health, WebServer
from metrics import Exposition, Fanout
from shutdown import Deadline, StartStop
from shutdown.testing import stress

SERVICES = ["leases", "gate", "reconciler", "watch", "slowest", "resting"]
OF_TRACKING = ["ClockKeeper", "Destinations", "Drainer", "Drainer", "Retention"]


class Well:
    """A source of health."""

    def health(self) -> Health:
        return Health(
            state=WorkerState.READY,
            consumed=True,
            in_flight=0,
            last_claim_age_seconds=None,
            held=(),
            version="1",
            instance="test",
        )


@pytest.fixture
async def parts(redis_url: str, database_url: str, prefix: str) -> AsyncIterator[Parts]:
    """Return what a worker is made of, with its database open."""
    settings = Settings.load(
        env_file=None,
        redis_url=redis_url,
        database_url=database_url,
        smtp_url="smtp://127.0.0.1:1",
        mail_from="news@example.org",
        bullmq_prefix=prefix,
        tracking_base_url="https://t.example.org",
        tracking_signing_keys="1:" + 32 * "k",
    )
    made = Parts(settings, Fanout())
    await made.database.open()
    yield made
    await made.ledger.close(Deadline.after(2))
    await made.database.close(Deadline.after(2))
    await made.redis.aclose()


@pytest.mark.parametrize("name", SERVICES)
async def test_a_service_of_the_worker_passes_the_stress_test(parts: Parts, name: str) -> None:
    # The same object again and again: a stopped service can be started anew.
    await stress(lambda: getattr(parts, name))


@pytest.mark.parametrize("number", range(len(OF_TRACKING)), ids=lambda n: f"{n} {OF_TRACKING[n]}")
async def test_a_service_of_tracking_passes_the_stress_test(parts: Parts, number: int) -> None:
    assert parts.tracking is not None
    service = parts.tracking.services[number]
    await stress(lambda: service)


async def test_the_web_server_passes_the_stress_test() -> None:
    exposition = Exposition(CollectorRegistry())
    await stress(lambda: WebServer(0, Well(), exposition))


async def test_every_service_that_the_worker_has_is_in_this_file(parts: Parts) -> None:
    services = {name for name, part in vars(parts).items() if isinstance(part, StartStop)}
    assert services == set(SERVICES)
    assert parts.tracking is not None
    assert [type(service).__name__ for service in parts.tracking.services] == OF_TRACKING
