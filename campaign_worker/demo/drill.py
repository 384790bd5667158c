"""The drill: a campaign sent by one worker, redeployed half-way as Railway does. Judges nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from campaign_worker.demo.options import Options
from campaign_worker.demo.progress import Display
from campaign_worker.demo.verdict import Handover
from campaign_worker.demo.watch import Snapshot, Watch
from campaign_worker.demo.worker import Worker
from campaign_worker.errors import DemoFailed

OLD, NEW = "worker-a", "worker-b"


class Drill:
    """Runs the workers with `settings`, each in a folder below `folder`."""

    def __init__(
        self,
        options: Options,
        watch: Watch,
        display: Display,
        settings: Mapping[str, str],
        folder: Path,
    ) -> None:
        self._options = options
        self._display = display
        self._watch = watch
        self._settings = settings
        self._folder = folder
        self._workers: list[Worker] = []

    async def run(self) -> Handover | None:
        """Send everything; returns what the old worker said of its jobs, None without a redeploy.

        Raises DemoFailed. Whatever happens, no worker is left running.
        """
        with self._nothing_left():
            worker = await self._start(OLD)
            handover = None
            if self._options.redeploy:
                half = self._options.recipients // 2
                await self._watch.until(lambda now: now.first_sent >= half, "first mails")
                self._display.say(f"{half} first mails are sent: the redeploy begins")
                fresh = await self._start(NEW)
                handover = await self._replace(worker, fresh)
                worker = fresh
            await self._watch.until(lambda now: now.ended, "sending the rest")
            worker.terminate()
            await self._watch.until(lambda _: not worker.running, f"{worker.name} stops")
            worker.check()
            return handover

    async def _start(self, name: str) -> Worker:
        worker = Worker(name, self._settings, self._folder / name)
        self._workers.append(worker)
        worker.start()
        self._watch.follow(worker)
        await self._watch.until(lambda now: now.consuming(worker), f"{name} starts")
        self._display.say(f"{name} is up: /health says 200")
        return worker

    async def _replace(self, old: Worker, fresh: Worker) -> Handover:
        def busy_or_over(now: Snapshot) -> bool:
            return now.in_flight(old) > 0 or now.ended

        moment = await self._watch.until(busy_or_over, f"{fresh.name} is up")
        in_flight = moment.in_flight(old)
        if in_flight == 0:
            raise DemoFailed(
                "redeploy",
                "nothing was in flight when the signal was to come: all mails were sent before"
                f" {fresh.name} was up",
            )
        old.terminate()
        self._display.say(f"SIGTERM to {old.name}, which has {in_flight} jobs in flight")
        await self._watch.until(lambda _: not old.running, f"{old.name} drains")
        old.check()
        handover = old.handover()
        self._display.say(
            f"{old.name} left after {handover.seconds:.1f} s with exit code 0:"
            f" {handover.finished} jobs finished, {handover.handed_back} handed back"
        )
        return handover

    @contextlib.contextmanager
    def _nothing_left(self) -> Iterator[None]:
        try:
            yield
        finally:
            for worker in self._workers:
                worker.kill()
