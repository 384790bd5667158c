"""Where a queue lives: the one server that is named, or the node of a cluster that holds its slot.

Asks anew for each connection and keeps none. All keys of a queue must share one hash tag.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from redis.crc import key_slot
from redis.exceptions import ResponseError

from campaign_worker.errors import RedisAway, SettingsError
from campaign_worker.queue.wire import Wire

if TYPE_CHECKING:
    from campaign_worker.queue.connection import ConnectionSpec
    from campaign_worker.queue.keys import QueueKeys

_ASK_SECONDS = 2.0


class Home:
    """The place of one queue's keys; shared by all connections of its worker."""

    def __init__(self, spec: ConnectionSpec, keys: QueueKeys) -> None:
        """Refuse keys that a cluster would spread over its nodes: SettingsError (`prefix`)."""
        self._spec = spec
        self._slot = key_slot(keys.of("wait").encode())
        if spec.nodes and key_slot(keys.of("active").encode()) != self._slot:
            problem = "must hold a hash tag, for all keys of a queue to be on one node of a cluster"
            raise SettingsError("prefix", problem, "such as {bull}")
        #: What was found last; the first entry point before that.
        self.known = spec.node(*spec.nodes[0]) if spec.nodes else spec

    async def find(self) -> ConnectionSpec:
        """Return how to reach it now. Raises errors.RedisAway, errors.CredentialsRefused."""
        if self._spec.nodes:
            self.known = await self._search()
        return self.known

    async def _search(self) -> ConnectionSpec:
        problem: Exception = RedisAway("no node of the cluster knows who holds the queue's slot")
        entrances = [self.known, *(self._spec.node(*node) for node in self._spec.nodes)]
        for entrance in dict.fromkeys(entrances):
            try:
                holder = await self._ask(entrance)
            except (RedisAway, ResponseError) as error:
                problem = error
                continue
            if holder is not None:
                return self._spec.node(*holder)
        raise RedisAway(f"cluster: {problem}") from problem

    async def _ask(self, entrance: ConnectionSpec) -> tuple[str, int] | None:
        """Ask one node (CLUSTER SLOTS); an empty host in its answer is its own."""
        wire = Wire(entrance.connection(), reply_timeout_seconds=None)
        try:
            # A node that is frozen is connected to all the same, and says nothing from then on.
            async with asyncio.timeout(_ASK_SECONDS):
                await wire.open()
                ranges: list[Any] = await wire.call("CLUSTER", "SLOTS")
        except TimeoutError as error:
            raise RedisAway(f"{entrance.host}:{entrance.port} does not answer") from error
        finally:
            await wire.aclose()
        for first, last, primary, *_ in ranges:
            if int(first) <= self._slot <= int(last):
                return str(primary[0] or entrance.host), int(primary[1])
        return None
