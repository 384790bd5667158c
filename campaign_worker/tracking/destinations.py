"""Where a link of a template leads: from memory, from Postgres, or from its copy in Redis.

A link never changes, so what is known stays true. Nobody waits longer than 40 ms for Postgres. Each
new link is fetched as it appears, before anybody clicks it, and copied to Redis.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from itertools import islice
from typing import Final
from urllib.parse import quote

import structlog

from campaign_worker.errors import Away, DatabaseAway, RedisAway
from campaign_worker.tracking.events import ALL_SECONDS, STORE_SECONDS
from campaign_worker.tracking.ports import LinkCopies, Links
from shutdown import StartStop, end

log = structlog.get_logger(__name__)

LINKS_KEPT: Final = 20_000
PAGE: Final = 1000
EVERY_SECONDS: Final = 1.0
FIRST_PAUSE_SECONDS: Final = 0.05
LOOKS_BEHIND: Final = 5
"""For so many looks a link may be committed after one with a greater id, and is found still."""

# All that RFC 3986 lets stand in a URL, and %, which is there already.
_SAFE: Final = "!#$%&'()*+,/:;=?@[]~"


class Destinations(StartStop):
    """Finds URLs by the ids of links; `store_away` says that Postgres was given up."""

    def __init__(
        self,
        links: Links,
        copies: LinkCopies,
        store_away: Callable[[], bool],
        *,
        every_seconds: float = EVERY_SECONDS,
    ) -> None:
        super().__init__()
        self._links = links
        self._copies = copies
        self._store_away = store_away
        self._every_seconds = every_seconds
        self._known: dict[int, str] = {}
        self._uncopied: dict[int, str] = {}
        self._lasts = deque([0], maxlen=LOOKS_BEHIND)
        self._complete = asyncio.Event()
        self._asked: dict[int, asyncio.Task[str | None]] = {}
        self._follower: asyncio.Task[None] | None = None

    def known(self, link_id: int) -> str | None:
        """Give a URL from memory: ASCII, fit for a Location header."""
        return self._known.get(link_id)

    async def find(self, link_id: int) -> str | None:
        """Look a link up, within 90 ms; None when there is no such link.

        Raises errors.DatabaseAway when nobody could say.
        """
        until = time.monotonic() + ALL_SECONDS
        url = self._known.get(link_id)
        if url is not None:
            return url
        if self._store_away():
            url = await self._ask_copies(link_id, until)
        if url is None:
            try:
                url = await self._ask_store(link_id)
            except DatabaseAway:
                url = await self._ask_copies(link_id, until)
                if url is None:
                    raise
        if url is None:
            return None
        self._keep({link_id: url})
        return self._known[link_id]

    async def complete(self, within_seconds: float) -> bool:
        """Wait until every link has been read from Postgres once; False: not in that time."""
        try:
            async with asyncio.timeout(within_seconds):
                return await self._complete.wait()
        except TimeoutError:
            return False

    async def _start(self) -> None:
        self._follower = asyncio.create_task(self._follow(), name="new links")

    async def _stop(self) -> None:
        follower, self._follower = self._follower, None
        tasks = [*self._asked.values(), *([follower] if follower is not None else [])]
        await end(*tasks)

    async def _ask_store(self, link_id: int) -> str | None:
        task = self._asked.get(link_id)
        if task is None:
            # Left to itself when the time is over: a driver that is told to stop may take longer
            # for that than for its answer.
            task = asyncio.create_task(self._links.url(link_id))
            self._asked[link_id] = task
            task.add_done_callback(partial(self._answered, link_id))
        await asyncio.wait({task}, timeout=STORE_SECONDS)
        if not task.done() or task.cancelled():
            raise DatabaseAway("Postgres: no answer in time")
        return task.result()

    def _answered(self, link_id: int, task: asyncio.Task[str | None]) -> None:
        del self._asked[link_id]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.debug("tracking", problem="a link was not read", error=str(error))

    async def _ask_copies(self, link_id: int, until: float) -> str | None:
        try:
            async with asyncio.timeout(max(until - time.monotonic(), 0.0)):
                return await self._copies.url(link_id)
        except (RedisAway, TimeoutError):
            return None

    async def _follow(self) -> None:
        pause_seconds = min(FIRST_PAUSE_SECONDS, self._every_seconds)
        while True:
            try:
                await self._look()
                self._complete.set()
                pause_seconds = self._every_seconds
                await self._copy()
            except Away as error:
                log.debug("tracking", problem="new links were not read", error=str(error))
            except Exception:
                log.exception("tracking")
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, self._every_seconds)

    async def _look(self) -> None:
        """Take in the links that are new since a few looks ago."""
        last, links = self._lasts[0], None
        while links is None or len(links) == PAGE:
            links = await self._links.after(last, PAGE, LINKS_KEPT)
            self._keep(links)
            last = max(links, default=last)
        if not self._complete.is_set():
            # From the next look on one page of those long there is read again, not all.
            self._lasts[0] = max(0, last - PAGE)
        self._lasts.append(last)

    async def _copy(self) -> None:
        """Copy to Redis what is not there yet."""
        while self._uncopied:
            links = dict(islice(self._uncopied.items(), PAGE))
            await self._copies.keep(links)
            for link_id in links:
                self._uncopied.pop(link_id, None)

    def _keep(self, links: Mapping[int, str]) -> None:
        for link_id, url in links.items():
            if link_id not in self._known:
                self._known[link_id] = self._uncopied[link_id] = quote(url, safe=_SAFE)
        for link_id in list(islice(self._known, max(0, len(self._known) - LINKS_KEPT))):
            del self._known[link_id]
            self._uncopied.pop(link_id, None)
