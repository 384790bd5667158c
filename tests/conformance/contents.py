"""All that a queue has in Redis, as one comparable value: what can never be equal is masked."""

from __future__ import annotations

import json
import re
import time
from typing import Any

#: redis-py types each reply for bytes and text, sync and async at once; here all of it is text.
Client = Any

MS = "<ms>"
_TIMES = frozenset({"timestamp", "processedOn", "finishedOn", "prevTS"})
#: What a scheduler's interval begins with, and what follows from when its job was made.
_OF_SCHEDULES = frozenset({"offset", "startDate", "endDate", "prevMillis", "timestamp", "delay"})
_ITERATION = re.compile(r"(repeat:[^\"]+?:)(\d{13})\b")
_HOUR_MS, _MINUTE_MS = 3_600_000, 60_000
_BY_TIME = ("completed", "failed", "delayed", "waiting-children", ":unsuccessful")


async def dump(client: Client, prefix: str, queue: str) -> dict[str, Any]:
    """Return every key of a queue without its prefix: type, content, and whether it expires."""
    start = f"{prefix}:{queue}:"
    keys = sorted([key async for key in client.scan_iter(f"{start}*", count=1000)])
    return _numbered({key.removeprefix(start): await _key(client, key, start) for key in keys})


async def events(client: Client, prefix: str, queue: str) -> list[dict[str, str]]:
    """Return the event stream, oldest first."""
    return [fields for _, fields in await client.xrange(f"{prefix}:{queue}:events")]


def _numbered(taken: dict[str, Any]) -> dict[str, Any]:
    """Name a scheduler's iterations by their order instead of by their times."""
    text = json.dumps(taken)
    order = {ms: n for n, ms in enumerate(sorted({found[1] for found in _ITERATION.findall(text)}))}
    numbered = _ITERATION.sub(lambda match: f"{match[1]}#{order[match[2]]}", text)
    parsed: dict[str, Any] = json.loads(numbered)
    return parsed


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
            if name == "repeat":
                return {scheduler: _due(score) for scheduler, score in scored}
            return sorted(dict(scored)) if name.endswith(_BY_TIME) else scored
        case "hash":
            fields = {field: _field(field, text) for field, text in (await _sorted(client, key))}
            scheduled = "rjk" in fields or name.startswith("repeat:")
            return _schedule(fields) if scheduled else fields
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


def _schedule(fields: dict[str, Any]) -> dict[str, Any]:
    masked = {
        name: _due(float(value)) if name in _OF_SCHEDULES and value != MS else value
        for name, value in fields.items()
    }
    if "opts" in fields:
        opts = json.loads(fields["opts"])
        inside = opts.get("repeat") or {}
        for holder in (opts, inside):
            for name in _OF_SCHEDULES & holder.keys():
                holder[name] = _due(holder[name])
        masked["opts"] = opts
    return masked


def _due(moment_ms: float) -> Any:
    """Mask a time, but for one that a pattern names and both runs must agree on."""
    far = moment_ms - time.time() * 1000 > _HOUR_MS
    return moment_ms if far and moment_ms % _MINUTE_MS == 0 else MS


def _event(fields: dict[str, str]) -> dict[str, str]:
    # The moment at which a delayed job falls due.
    return fields | {"delay": MS} if "delay" in fields else fields
