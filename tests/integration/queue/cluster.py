"""A Redis cluster of three nodes without replicas, for tests of workers on one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Self

import redis.asyncio
from redis.crc import key_slot

from campaign_worker.embedded.redis import RedisServer
from tests.support import eventually, free_port

SLOTS = 16_384
MakeRedis = Callable[..., Awaitable[RedisServer]]


class Node:
    """One server of the cluster."""

    def __init__(self, server: RedisServer, bus_port: int) -> None:
        self.server = server
        self.bus_port = bus_port
        self.client: Any = redis.asyncio.Redis.from_url(server.url, decode_responses=True)
        self.id = ""

    @property
    def point(self) -> dict[str, Any]:
        return {"host": "127.0.0.1", "port": self.server.port}


class Cluster:
    """Who holds which slots, and how that changes."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes

    @classmethod
    async def started(cls, make: MakeRedis) -> Self:
        buses = [free_port() for _ in range(3)]
        settings = [
            {"cluster-enabled": "yes", "cluster-node-timeout": "5000", "cluster-port": str(bus)}
            for bus in buses
        ]
        servers = await asyncio.gather(*(make(settings=one, appendonly=False) for one in settings))
        cluster = cls([Node(*each) for each in zip(servers, buses, strict=True)])
        await cluster._join()
        return cluster

    async def close(self) -> None:
        for node in self.nodes:
            await node.client.aclose()

    def holder(self, key: str) -> Node:
        """Return the node that held a key's slot at the beginning."""
        return self.nodes[key_slot(key.encode()) * 3 // SLOTS]

    async def move(self, key: str, source: Node, target: Node) -> None:
        """Move a key's slot with all that is in it, as redis-cli --cluster reshard does."""
        slot = key_slot(key.encode())
        await target.client.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", source.id)
        await source.client.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", target.id)
        while keys := await source.client.execute_command("CLUSTER GETKEYSINSLOT", slot, 100):
            host, port = "127.0.0.1", target.server.port
            await source.client.execute_command("MIGRATE", host, port, "", 0, 5000, "KEYS", *keys)
        for node in (target, source, *self.nodes):
            await node.client.execute_command("CLUSTER SETSLOT", slot, "NODE", target.id)

    async def _join(self) -> None:
        for number, node in enumerate(self.nodes):
            node.id = await node.client.execute_command("CLUSTER MYID")
            first, end = (-(-SLOTS * at // 3) for at in (number, number + 1))
            await node.client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
            await node.client.execute_command("CLUSTER ADDSLOTSRANGE", first, end - 1)
        for node in self.nodes[1:]:
            await self.nodes[0].client.execute_command(
                "CLUSTER MEET", "127.0.0.1", node.server.port, node.bus_port
            )
        await eventually(self._is_up, 15)

    async def _is_up(self) -> bool:
        for node in self.nodes:
            info = await node.client.execute_command("CLUSTER INFO")
            text = str(info)
            assert "cluster_state" in text
            assert "ok" in text.partition("cluster_state")[2][:8], text
            slots = await node.client.execute_command("CLUSTER NODES")
            assert len(slots) == len(self.nodes), slots
        return True
