"""The drill: a campaign sent by one worker, redeployed half-way as Railway does, and read.

A tracker answers the readers from before the first mail to after their last look. Judges nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from campaign_worker.demo.facts import Handover
from campaign_worker.demo.options import Options
from campaign_worker.demo.progress import Display
from campaign_worker.demo.readers import Readers
from campaign_worker.demo.watch import Snapshot, Watch
from campaign_worker.demo.worker import Worker
from campaign_worker.errors import DemoFailed

OLD, NEW, TRACKER = "worker-a", "worker-b", "tracker"
SETTLE_SECONDS = 10.0
"""What lags behind has so long to come; what is missing then is for the verdict."""


class Drill:
    """Runs the workers with `settings`, each in a folder below `folder`."""

    def __init__(
        self,
        options: Options,
        watch: Watch,
        readers: Readers,
        display: Display,
        settings: Mapping[str, str],
        folder: Path,
    ) -> None:
        self._options = options
        self._display = display
        self._watch = watch
        self._readers = readers
        self._settings = settings
        self._folder = folder
        self._workers: list[Worker] = []

    async def run(self) -> Handover | None:
        """Send everything; returns what the old worker said of its jobs, None without a redeploy.

        Raises DemoFailed. Whatever happens, no worker is left running.
        """
        with self._nothing_left():
            tracker = self._begin(TRACKER, "track")
            worker = self._begin(OLD)
            await self._up(tracker)
            self._watch.guard(self._readers.check)
            self._readers.start(tracker.url)
            await self._up(worker)
            handover = None
            if self._options.redeploy:
                half = self._options.recipients // 2
                await self._watch.until(lambda now: now.first_sent >= half, "first mails")
                self._display.say(f"{half} first mails are sent: the redeploy begins")
                fresh = self._begin(NEW)
                await self._up(fresh)
                handover = await self._replace(worker, fresh)
                worker = fresh
            await self._watch.until(lambda now: now.ended, "sending the rest")
            self._readers.no_more_mails()
            await self._watch.until(lambda now: now.idle, "the last jobs", SETTLE_SECONDS)
            await self._end(worker)
            await self._watch.until(lambda _: self._readers.finished, "the last mails are read")
            self._readers.check()
            answered = self._readers.answered
            await self._watch.until(
                lambda now: now.tracked >= answered, "counting what was read", SETTLE_SECONDS
            )
            await self._end(tracker)
            return handover

    def _begin(self, name: str, command: str = "run") -> Worker:
        worker = Worker(name, self._settings, self._folder / name, command)
        self._workers.append(worker)
        worker.start()
        self._watch.follow(worker)
        return worker

    async def _up(self, worker: Worker) -> None:
        await self._watch.until(lambda now: now.consuming(worker), f"{worker.name} starts")
        self._display.say(f"{worker.name} is up: /health says 200")

    async def _end(self, worker: Worker) -> None:
        worker.terminate()
        await self._watch.until(lambda _: not worker.running, f"{worker.name} stops")
        worker.check()

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
