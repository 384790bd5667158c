"""An app of examples/ beside a site: its tables, its Node processes, and what both sides say."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.acceptance.site import SENDER, Site
from tests.examples.example import Example
from tests.fixtures import node_packages
from tests.fixtures.node import NodeProcess
from tests.support import KEPT_VARIABLES, eventually

END_SECONDS = 20.0
LINE_BYTES = 16 * 1024 * 1024

_OURS = "SELECT count(*) FROM campaign_worker.messages WHERE state = 'sent'"


class AppProcess(NodeProcess):
    """One of the app's own Node processes; it writes JSON lines."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        super().__init__(process)
        self.closed = False

    async def close(self) -> None:
        """Let it end as a deploy does, by SIGTERM; raise what it could not end by."""
        self.closed = True
        self._process.terminate()
        await self.over()

    async def over(self) -> None:
        """Wait for its end by itself."""
        async with asyncio.timeout(END_SECONDS):
            code = await self._process.wait()
        assert code == 0, f"ended with {code}: {await self._errors}"


@dataclass(frozen=True, slots=True)
class Started:
    """A campaign that a producer has started; `process` watches it to its end."""

    id: str
    enqueued: int
    process: AppProcess


@dataclass(frozen=True, slots=True)
class Books:
    """What everybody says in the end; all but the first four must be 0.

    `twice`, `missed`: mails beyond or below what each address has to get. `unmarked`: mails that
    the app's row does not know, or knows wrongly. `miscounted`: by how much its counts are wrong.
    `wrong_ends`: jobs that ended otherwise than the app expects.
    """

    enqueued: int
    accepted: int
    by_node: int
    by_us: int
    twice: int
    missed: int
    unmarked: int
    miscounted: int
    wrong_ends: int

    @property
    def flawless(self) -> bool:
        """Whether all is as it must be."""
        faults = (self.twice, self.missed, self.unmarked, self.miscounted, self.wrong_ends)
        return self.accepted == self.enqueued and not any(faults)


class Office:
    """One app. Everything that it starts is gone after close()."""

    def __init__(self, site: Site, example: Example) -> None:
        self.site = site
        self.example = example
        self._processes: list[AppProcess] = []
        site.env["CONTRACT"] = str(example.folder / "contract.toml")

    async def open(self) -> None:
        """Install the app's packages and make its tables."""
        await asyncio.to_thread(node_packages.install_folder, str(self.example.folder))
        async with self.site.postgres() as connection:
            await connection.execute((self.example.folder / "schema.sql").read_text())

    async def start(self, mails: int) -> Started:
        """Let the app start a campaign of `mails` mails."""
        process = await self._node("producer.mjs", str(mails // self.example.steps))
        said = await process.next_line(timeout_seconds=60)
        assert said["enqueued"] == mails
        return Started(str(said["campaign"]), mails, process)

    async def node_worker(self) -> AppProcess:
        """Start the app's own worker, and wait until it is ready."""
        process = await self._node("worker.mjs")
        assert await process.next_line() == {"ready": True}
        return process

    async def later_mails(self, campaigns: Sequence[Started]) -> None:
        """Press the app's button for follow-ups when all first mails are out, if it has them."""
        if self.example.steps == 1:
            return
        first = sum(one.enqueued for one in campaigns) // self.example.steps

        async def only_later_ones_wait() -> bool:
            waiting = [(await self.statuses(one)).get("scheduled", 0) for one in campaigns]
            return sum(waiting) == first

        await eventually(only_later_ones_wait, 300, says="all first mails are out")
        button = await self._node("follow-up-now.mjs")
        assert await button.next_line() == {"promoted": first}
        await button.over()

    async def marked(self, campaigns: Sequence[Started]) -> list[tuple[str, str]]:
        """Return address and Message-ID of what the app takes for sent."""
        async with self.site.postgres() as connection:
            rows = [
                row
                for one in campaigns
                for row in await connection.fetch(self.example.marked, one.id)
            ]
        return [(row[0], row[1]) for row in rows]

    async def people(self, campaign: Started) -> list[str]:
        """Return everybody's address."""
        async with self.site.postgres() as connection:
            return sorted(
                row[0] for row in await connection.fetch(self.example.people, campaign.id)
            )

    async def forget(self, addresses: Sequence[str]) -> None:
        """Let the app note that these want no mail."""
        async with self.site.postgres() as connection:
            await connection.execute(self.example.forget, list(addresses))

    async def blocked(self) -> list[str]:
        """Return the addresses that the app has been told to mail no more."""
        assert self.example.blocked is not None
        async with self.site.postgres() as connection:
            return sorted(row[0] for row in await connection.fetch(self.example.blocked))

    async def statuses(self, campaign: Started) -> dict[str, int]:
        """Return the app's words, and how many mails have each."""
        async with self.site.postgres() as connection:
            rows = await connection.fetch(self.example.statuses, campaign.id)
        return {row[0]: row[1] for row in rows}

    async def counts(self, campaign: Started) -> tuple[int, int] | None:
        """Return what the app counts as sent and as failed, None where it counts nothing."""
        if self.example.counted is None:
            return None
        async with self.site.postgres() as connection:
            row = await connection.fetchrow(self.example.counted, campaign.id)
        assert row is not None
        return row[0], row[1]

    async def ended(self, campaign: Started, timeout_seconds: float = 60.0) -> list[Any]:
        """Wait until the producer has seen all its jobs end; how each did."""
        said = await campaign.process.next_line(timeout_seconds=timeout_seconds)
        await campaign.process.over()
        assert not self.example.listed or said["progress"] == 100
        ends: list[Any] = said["ended"]
        return ends

    async def books(self, campaigns: Sequence[Started], timeout_seconds: float = 60.0) -> Books:
        """Wait for the end of these campaigns; what everybody says then."""
        ended = [await self.ended(one, timeout_seconds) for one in campaigns]
        mails = self.site.sink.mails
        accepted = [(address, mail.message_id) for mail in mails for address in mail.recipients]
        message_ids = {message_id for _, message_id in accepted}
        by_address = Counter(address for address, _ in accepted)
        enqueued, steps = sum(one.enqueued for one in campaigns), self.example.steps
        marked = await self.marked(campaigns)
        untrue = Counter(marked)
        untrue.subtract(accepted)
        known = Counter(address for address, _ in accepted)
        async with self.site.postgres() as connection:
            by_us = int(await connection.fetchval(_OURS))
        return Books(
            enqueued=enqueued,
            accepted=len(accepted),
            by_node=len(accepted) - by_us,
            by_us=by_us,
            twice=sum(max(0, count - steps) for count in by_address.values()),
            missed=enqueued - sum(min(count, steps) for count in known.values()),
            unmarked=sum(abs(count) for count in untrue.values()),
            miscounted=await self._miscounted(campaigns),
            wrong_ends=sum(self.example.wrong_ends(one, message_ids) for one in ended),
        )

    async def close(self) -> None:
        """End every Node process that still runs."""
        for process in self._processes:
            await process.kill()

    async def _miscounted(self, campaigns: Sequence[Started]) -> int:
        wrong = 0
        for one in campaigns:
            counts = await self.counts(one)
            if counts is not None:
                wrong += abs(counts[0] - one.enqueued) + counts[1]
        return wrong

    async def _node(self, *command: str) -> AppProcess:
        kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
        process = await asyncio.create_subprocess_exec(
            *["node", *command],
            cwd=self.example.folder,
            env={
                **kept,
                "DATABASE_URL": self.site.database_url,
                "REDIS_URL": self.site.redis_url,
                "SMTP_URL": self.site.sink.url,
                "MAIL_FROM": f"News <news@{SENDER}>",
                "QUEUE_PREFIX": self.site.prefix,
            },
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=LINE_BYTES,
        )
        self._processes.append(AppProcess(process))
        return self._processes[-1]
