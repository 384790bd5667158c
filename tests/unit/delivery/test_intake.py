"""The gate: held once, probed until it answers, opened for everybody."""

from __future__ import annotations

import asyncio

import pytest

from campaign_worker.errors import ContractBroken, DatabaseAway, SmtpPhase, TransportDown
from campaign_worker.intake import IntakeGate
from metrics import Event, IntakeHeld
from tests.support import eventually

AWAY = DatabaseAway("gone")
DOWN = TransportDown("default", SmtpPhase.CONNECT, "refused")


class Workers:
    """A worker and a listener that note what they are told, and probes that fail as told."""

    def __init__(self, transports: tuple[str, ...] = ("default",)) -> None:
        self.told: list[str] = []
        self.events: list[Event] = []
        self.probes = 0
        self.away = True
        self.gate = IntakeGate(
            probe_database=self.probe,
            probe_transports=dict.fromkeys(transports, self.probe),
            listener=self,
            transport_probe_seconds=0.01,
        )

    async def probe(self) -> None:
        self.probes += 1
        if self.away:
            raise ConnectionError("still away")

    def hold(self, reason: str) -> None:
        self.told.append(f"hold {reason}")

    def release(self, reason: str) -> None:
        self.told.append(f"release {reason}")

    def on_event(self, event: Event) -> None:
        self.events.append(event)


async def test_many_losses_hold_once_and_the_first_good_probe_opens() -> None:
    workers = Workers()
    await workers.gate.start()
    workers.gate.attach([workers])
    for _ in range(50):
        workers.gate.database_away(AWAY)
    assert (workers.told, workers.gate.reasons) == (["hold postgres"], ["postgres"])
    await eventually(lambda: workers.probes >= 1)
    assert workers.told == ["hold postgres"]
    workers.away = False
    await eventually(lambda: workers.told == ["hold postgres", "release postgres"])
    assert workers.gate.reasons == []
    assert [event.held for event in workers.events if isinstance(event, IntakeHeld)] == [
        True,
        False,
    ]
    await workers.gate.stop()


async def test_reasons_are_held_side_by_side() -> None:
    workers = Workers()
    await workers.gate.start()
    workers.gate.attach([workers])
    workers.gate.database_away(AWAY)
    assert workers.gate.transport_down("default", DOWN) is None
    assert workers.gate.reasons == ["postgres", "transport default"]
    workers.away = False
    await eventually(lambda: not workers.gate.reasons)
    assert sorted(workers.told) == [
        "hold postgres", "hold transport default", "release postgres", "release transport default",
    ]  # fmt: skip
    await workers.gate.stop()


async def test_of_several_transports_one_that_is_down_defers_its_own_jobs_and_is_probed() -> None:
    workers = Workers(("default", "second"))
    await workers.gate.start()
    workers.gate.check("second")
    for _ in range(50):
        assert workers.gate.transport_down("second", DOWN) == 0.01
    workers.gate.attach([workers])
    assert (workers.told, workers.gate.reasons) == ([], ["transport second"])
    workers.gate.check("default")
    with pytest.raises(TransportDown, match="second"):
        workers.gate.check("second")
    probes = [task for task in asyncio.all_tasks() if task.get_name().startswith("probe")]
    assert len(probes) == 1
    await eventually(lambda: workers.probes >= 20)
    later = workers.gate.transport_down("second", DOWN)
    assert later is not None
    assert later > 0.1, "the longer it is down, the rarer its jobs come back"
    workers.away = False
    await eventually(lambda: not workers.gate.reasons)
    workers.gate.check("second")
    assert workers.told == []
    await workers.gate.stop()


async def test_a_worker_that_comes_later_is_held_too() -> None:
    workers = Workers()
    await workers.gate.start()
    workers.gate.database_away(AWAY)
    workers.gate.attach([workers])
    assert workers.told == ["hold postgres"]
    await workers.gate.stop()


async def test_after_a_stop_nothing_is_probed_and_nothing_opened() -> None:
    workers = Workers()
    await workers.gate.start()
    workers.gate.attach([workers])
    workers.gate.database_away(AWAY)
    await workers.gate.stop()
    # A job that drains finds Postgres away: nobody would ever end a probe that began now.
    workers.gate.database_away(AWAY)
    assert workers.told == ["hold postgres"]
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("probe")]


async def test_a_contract_that_does_not_fit_holds_and_says_why_until_it_fits() -> None:
    workers = Workers()
    workers.gate = IntakeGate(
        probe_database=workers.probe,
        probe_transports={"default": workers.probe},
        listener=workers,
        transport_probe_seconds=0.01,
        probe_contract=workers.probe,
        contract_probe_seconds=0.01,
    )
    await workers.gate.start()
    workers.gate.attach([workers])
    workers.gate.database_away(ContractBroken("load.recipients", "column r.email does not exist"))
    assert workers.told == ["hold contract load.recipients"]
    assert workers.gate.reasons == ["contract load.recipients: column r.email does not exist"]
    workers.away = False
    await eventually(lambda: workers.told[1:] == ["release contract load.recipients"])
    assert workers.gate.reasons == []
