from __future__ import annotations

import asyncio

import pytest

from shutdown import StartStop, StoppedWhileStarting
from shutdown.testing import stress


class Engine(StartStop):
    """Counts, and fails when a start and a stop overlap."""

    def __init__(self) -> None:
        super().__init__()
        self.starts = 0
        self.stops = 0
        self.busy = False
        self.start_error: Exception | None = None
        self.stop_error: Exception | None = None
        self.start_gate = asyncio.Event()
        self.stop_gate = asyncio.Event()
        self.start_gate.set()
        self.stop_gate.set()

    async def _start(self) -> None:
        self._enter()
        try:
            self.starts += 1
            await self.start_gate.wait()
            if self.start_error:
                raise self.start_error
        finally:
            self.busy = False

    async def _stop(self) -> None:
        self._enter()
        try:
            self.stops += 1
            await self.stop_gate.wait()
            if self.stop_error:
                raise self.stop_error
        finally:
            self.busy = False

    def _enter(self) -> None:
        if self.busy:
            raise RuntimeError("start and stop overlap")
        self.busy = True


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_the_base_class_passes_the_stress_test() -> None:
    engines: list[Engine] = []

    def build() -> Engine:
        engines.append(Engine())
        return engines[-1]

    await stress(build)

    assert not any(engine.running for engine in engines)


async def test_concurrent_starts_share_one_and_concurrent_stops_share_one() -> None:
    engine = Engine()

    await asyncio.gather(*(engine.start() for _ in range(10)))
    assert engine.running
    await asyncio.gather(*(engine.stop() for _ in range(10)))

    assert (engine.starts, engine.stops) == (1, 1)
    assert not engine.running


async def test_a_stop_before_any_start_stops_nothing() -> None:
    engine = Engine()

    await engine.stop()

    assert engine.stops == 0


async def test_a_stop_ends_a_start_that_would_never_be_through() -> None:
    engine = Engine()
    engine.start_gate.clear()
    starting = asyncio.create_task(engine.start())
    await turns()

    await engine.stop()

    with pytest.raises(StoppedWhileStarting):
        await starting
    assert engine.stops == 1
    assert not engine.running


async def test_a_failed_start_cleans_up_and_raises_its_own_error() -> None:
    engine = Engine()
    engine.start_error = LookupError("no ground")
    engine.stop_error = OSError("nor this")

    with pytest.raises(LookupError, match="no ground") as caught:
        await engine.start()

    assert engine.stops == 1
    assert "nor this" in caught.value.__notes__[0]


async def test_after_a_failed_start_a_second_one_starts_from_clean_ground() -> None:
    engine = Engine()
    engine.start_error = LookupError("not yet")
    with pytest.raises(LookupError):
        await engine.start()
    engine.start_error = None

    await engine.start()

    assert engine.running
    assert (engine.starts, engine.stops) == (2, 1)


async def test_a_failed_stop_raises_for_everybody_and_can_be_tried_again() -> None:
    engine = Engine()
    await engine.start()
    engine.stop_error = OSError("stuck")

    results = await asyncio.gather(engine.stop(), engine.stop(), return_exceptions=True)
    assert [type(result) for result in results] == [OSError, OSError]

    engine.stop_error = None
    await engine.stop()
    assert engine.stops == 2


async def test_a_stop_goes_on_while_anybody_waits_for_it() -> None:
    engine = Engine()
    await engine.start()
    engine.stop_gate.clear()
    impatient, patient = asyncio.create_task(engine.stop()), asyncio.create_task(engine.stop())
    await turns()

    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    assert not patient.done()
    engine.stop_gate.set()
    await patient

    assert engine.stops == 1


async def test_a_stop_that_nobody_waits_for_any_more_is_cut_and_can_be_called_again() -> None:
    engine = Engine()
    await engine.start()
    engine.stop_gate.clear()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await engine.stop()
    assert not engine.busy

    engine.stop_gate.set()
    await engine.stop()
    assert engine.stops == 2


async def test_a_start_during_a_stop_waits_and_then_starts() -> None:
    engine = Engine()
    await engine.start()
    engine.stop_gate.clear()
    stopping, starting = asyncio.create_task(engine.stop()), asyncio.create_task(engine.start())
    await turns()
    assert engine.starts == 1

    engine.stop_gate.set()
    await asyncio.gather(stopping, starting)

    assert engine.starts == 2
    assert engine.running
    await engine.stop()


class Forgetful:
    """Breaks the contract: its stop leaves a task behind."""

    def __init__(self) -> None:
        self.tasks: list[asyncio.Task[bool]] = []

    async def start(self) -> None:
        self.tasks.append(asyncio.create_task(asyncio.Event().wait()))

    async def stop(self) -> None:
        return


class Stubborn:
    """Breaks the contract: a stop before the start never returns."""

    def __init__(self) -> None:
        self.started = asyncio.Event()

    async def start(self) -> None:
        self.started.set()

    async def stop(self) -> None:
        await self.started.wait()


async def test_stress_finds_a_task_that_was_left_behind() -> None:
    built: list[Forgetful] = []

    def build() -> Forgetful:
        built.append(Forgetful())
        return built[-1]

    with pytest.raises(AssertionError, match="tasks left behind"):
        await stress(build)
    for service in built:
        for task in service.tasks:
            task.cancel()
        await asyncio.wait(service.tasks)


async def test_stress_finds_a_stop_that_waits_for_a_start() -> None:
    with pytest.raises(AssertionError, match="stop before start: not over"):
        await stress(Stubborn, within_seconds=0.05)
