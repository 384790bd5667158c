"""The run: campaigns without deploys for the pace, one with, and the books of that one."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from campaign_worker.embedded.smtp_server import ReceivedMail
from campaign_worker.embedded.stack import EmbeddedStack
from campaign_worker.storage.migrate import migrate
from tests.acceptance.evidence import Verdict
from tests.acceptance.process import WorkerProcess
from tests.acceptance.site import Campaign, Site

POLL_SECONDS = 0.02
STUCK_SECONDS = 30.0
FINISH_SECONDS = 120.0
DRAIN_SECONDS = 30.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked for; pace in mails a second."""

    mails: int
    replicas: int
    in_flight: int
    latency_ms: float
    interval: float
    seed: int
    least_deploys: int
    least_share: float
    mails_without: int


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it. `failed`: rows and jobs that are not sent; `twice`: mails beyond one each.

    `miscounted`: by how much rows, counts and the SMTP server differ, and attempts that were spent.
    """

    lost: int
    twice: int
    stalled: int
    failed: int
    miscounted: int
    deploys: int
    mails_per_s: float
    mails_per_s_without: float

    def faults(self, plan: Plan) -> list[str]:
        """Say what is not as it has to be."""
        return list(self._faults(plan))

    def _faults(self, plan: Plan) -> Iterator[str]:
        for name in ("lost", "twice", "stalled", "failed", "miscounted"):
            if count := getattr(self, name):
                yield f"{name}: {count}"
        if self.deploys < plan.least_deploys:
            yield f"only {self.deploys} deploys of {plan.least_deploys}: more mails are needed"
        if self.mails_per_s < plan.least_share * self.mails_per_s_without:
            yield f"slower than {plan.least_share:g} of the pace without deploys"


class _Sink:
    """The stack's SMTP server as a site knows one."""

    def __init__(self, stack: EmbeddedStack) -> None:
        self._stack = stack
        self.url = stack.smtp_url

    @property
    def mails(self) -> list[ReceivedMail]:
        return self._stack.sink.mails()

    def count(self) -> int:
        return self._stack.sink.count()


class _Fleet:
    """The replicas, and those that were told to stop."""

    def __init__(self, site: Site, plan: Plan, say: Say) -> None:
        self._site = site
        self._plan = plan
        self._say = say
        self._dice = random.Random(plan.seed)  # noqa: S311 - repeatable, not secret
        self._replicas: list[WorkerProcess] = []
        self._leaving: set[asyncio.Task[None]] = set()
        self.deploys = 0

    async def start(self) -> None:
        for number in range(self._plan.replicas):
            self._replicas.append(await self._site.ready(f"first-{number}"))

    async def deploy(self) -> None:
        """Replace one: the new one is up and ready, then the old one is told."""
        fresh = await self._site.ready(f"deploy-{self.deploys + 1}")
        place = self._dice.randrange(len(self._replicas))
        old, self._replicas[place] = self._replicas[place], fresh
        self.deploys += 1
        leaving = asyncio.create_task(self._leave(old))
        self._leaving.add(leaving)

    async def all_left(self) -> None:
        """Wait for those that were told; raise what one of them did wrong."""
        await asyncio.gather(*self._leaving)

    async def stop(self) -> None:
        await asyncio.gather(*(self._leave(each) for each in self._replicas))

    async def _leave(self, old: WorkerProcess) -> None:
        told = time.monotonic()
        old.send(signal.SIGTERM)
        code = await old.ended(DRAIN_SECONDS)
        words = old.last_words
        fates = {name: words[name] for name in ("finished", "handed_back", "in_doubt", "abandoned")}
        self._say(f"{old.name}: exit {code} after {time.monotonic() - told:.2f} s, {fates}")
        if code != 0:
            raise RuntimeError(f"{old.name} ended with {code}:\n{old.tail()}")


async def run(plan: Plan, folder: Path, say: Say) -> Result:
    """Send both campaigns. Raises when a replica ends wrongly or nothing moves any more."""
    async with EmbeddedStack(folder / "stack", latency_ms=plan.latency_ms) as stack:
        await migrate(stack.database_url)
        sink: Any = _Sink(stack)
        site = Site(
            redis_url=stack.redis_url,
            database_url=stack.database_url,
            sink=sink,
            prefix="bull",
            folder=folder / "site",
            env={"CONCURRENCY": str(plan.in_flight), "DRAIN_SECONDS": str(DRAIN_SECONDS)},
        )
        try:
            fleet = _Fleet(site, plan, say)
            await fleet.start()
            # Before and after: whatever else the machine does drifts.
            half = plan.mails_without // 2
            before, _ = await _send(site, sink, half, None, plan)
            pace, verdict = await _send(site, sink, plan.mails, fleet, plan)
            after, _ = await _send(site, sink, half, None, plan)
            say(f"without deploys: {before:.0f} mails/s before, {after:.0f} after")
            await fleet.stop()
        finally:
            await site.close()
    say(f"with {fleet.deploys} deploys: {pace:.0f} mails/s, {verdict}")
    return _result(verdict, plan, fleet.deploys, (pace, (before + after) / 2))


async def _send(
    site: Site, sink: _Sink, mails: int, fleet: _Fleet | None, plan: Plan
) -> tuple[float, Verdict]:
    """Send one campaign; mails a second from the first 250 to the last, and the verdict."""
    before = sink.count()
    campaign = await site.campaign(mails)
    adding = asyncio.create_task(site.add(campaign))
    due = time.monotonic() + plan.interval
    moved_at, seen = time.monotonic(), before
    while (count := sink.count()) < before + mails:
        now = time.monotonic()
        if count > seen:
            moved_at, seen = now, count
        elif now - moved_at > STUCK_SECONDS:
            raise RuntimeError(f"no mail for {STUCK_SECONDS:g} s, {count - before} of {mails} sent")
        if fleet is not None and now >= due:
            due += plan.interval
            await fleet.deploy()
        await asyncio.sleep(POLL_SECONDS)
    await adding
    if fleet is not None:
        await fleet.all_left()
    verdict = await site.finished(campaign, FINISH_SECONDS)
    return _pace(_of(campaign, sink.mails)), verdict


def _of(campaign: Campaign, mails: Sequence[ReceivedMail]) -> list[ReceivedMail]:
    addresses = set(campaign.addresses.values())
    return [mail for mail in mails if addresses & set(mail.recipients)]


def _pace(mails: Sequence[ReceivedMail]) -> float:
    times = sorted(mail.received_ms for mail in mails)
    return (len(times) - 1) / max(0.001, (times[-1] - times[0]) / 1000)


def _result(verdict: Verdict, plan: Plan, deploys: int, paces: tuple[float, float]) -> Result:
    return Result(
        lost=verdict.lost,
        twice=verdict.duplicated,
        stalled=verdict.stalled,
        failed=max(plan.mails - verdict.states.get("sent", 0), verdict.jobs_failed),
        miscounted=verdict.miscounted + verdict.attempts_changed,
        deploys=deploys,
        mails_per_s=round(paces[0], 1),
        mails_per_s_without=round(paces[1], 1),
    )
