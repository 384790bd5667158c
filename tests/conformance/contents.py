"""All that a queue has in Redis, as one comparable value: what can never be equal is masked."""

from __future__ import annotations

import json
from typing import Any

#: redis-py types each reply for bytes and text, sync and async at once; here all of it is text.
Client = Any

MS = "<ms>"
_TIMES = frozenset({"timestamp", "processedOn", "finishedOn", "prevTS"})
_BY_TIME = ("completed", "failed", "delayed", "waiting-children", ":unsuccessful")


async def dump(client: Client, prefix: str, queue: str) -> dict[str, Any]:
    """Return every key of a queue without its prefix: type, content, and whether it expires."""
    start = f"{prefix}:{queue}:"
    keys = sorted([key async for key in client.scan_iter(f"{start}*", count=1000)])
    return {key.removeprefix(start): await _key(client, key, start) for key in keys}


async def events(client: Client, prefix: str, queue: str) -> list[dict[str, str]]:
    """Return the event stream, oldest first."""
    return [fields for _, fields in await client.xrange(f"{prefix}:{queue}:events")]


async def _key(client: Client, key: str, start: str) -> dict[str, Any]:
    kind = await client.type(key)
    name = key.removeprefix(start)
    return {
        "type": kind,
        "content": await _content(client, key, kind, name),
        "expires": await client.pttl(key) > 0,
    }


async def _content(client: Client, key: str, kind: str, name: str) -> Any:
    match kind:
        case "string":
            return MS if name == "stalled-check" else await client.get(key)
        case "list":
            return await client.lrange(key, 0, -1)
        case "set":
            return sorted(await client.smembers(key))
        case "zset":
            scored = await client.zrange(key, 0, -1, withscores=True)
            # Those of one millisecond stand in the order of their ids: the events tell theirs.
            return sorted(dict(scored)) if name.endswith(_BY_TIME) else scored
        case "hash":
            return {field: _field(field, text) for field, text in (await _sorted(client, key))}
        case "stream":
            return [_event(fields) for _, fields in await client.xrange(key)]
        case _:
            raise AssertionError(f"{key} is a {kind}")


async def _sorted(client: Client, key: str) -> list[tuple[str, str]]:
    return sorted((await client.hgetall(key)).items())


def _field(name: str, text: str) -> Any:
    if name in _TIMES:
        assert text.isdigit(), (name, text)
        return MS
    if name == "stacktrace":
        # Python's traces are not Node's; what both hold is one text for each failed attempt.
        traces = json.loads(text)
        assert all(isinstance(trace, str) for trace in traces), traces
        return f"{len(traces)} traces"
    return text


def _event(fields: dict[str, str]) -> dict[str, str]:
    # The moment at which a delayed job falls due.
    return fields | {"delay": MS} if "delay" in fields else fields
