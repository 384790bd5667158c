"""What a job can be asked and what can be done to it beside running it: a BullMQ script for each.

Needs no lock and ends no job. Changes of a job's state are fenced by the scripts themselves.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from campaign_worker.errors import JobGone, JobRefused
from campaign_worker.queue.jsonvalue import from_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from campaign_worker.queue.clock import RedisClock
    from campaign_worker.queue.keys import QueueKeys
    from campaign_worker.queue.link import Link
    from campaign_worker.queue.scripts import Script

Finished: TypeAlias = Literal["completed", "failed"]

_GONE, _NO_PARENT, _SCHEDULED = -1, -5, -8
#: Kinds of dependencies, the command that reads a page of each, and the key that holds them.
_KINDS = {
    "processed": ("HSCAN", ":processed"),
    "ignored": ("HSCAN", ":failed"),
    "failed": ("ZRANGE", ":unsuccessful"),
    "unprocessed": ("SSCAN", ":dependencies"),
}
_PAGE = 20


class JobDesk:
    """One queue's jobs, over the worker's command connection.

    Every method raises errors.RedisAway, and errors.JobGone where the job must exist.
    """

    def __init__(
        self, link: Link, keys: QueueKeys, scripts: Mapping[str, Script], clock: RedisClock
    ) -> None:
        self._link = link
        self._keys = keys
        self._scripts = scripts
        self._clock = clock

    async def state(self, job_id: str) -> str:
        """Script getStateV2: Node's name of the state, "unknown" for none."""
        kinds = self._keys.all_of(
            *("completed", "failed", "delayed", "active", "wait", "paused", "waiting-children"),
            "prioritized",
        )
        return str(await self._run("getStateV2", kinds, job_id))

    async def children_values(self, job_id: str) -> dict[str, Any]:
        """Results of the children that have completed, by their keys."""
        return _parsed(await self._hash(job_id, ":processed"))

    async def ignored_failures(self, job_id: str) -> dict[str, str]:
        """Reasons of the children whose failure their parent goes on without, by their keys."""
        return await self._hash(job_id, ":failed")

    async def dependencies(self, job_id: str, pages: Mapping[str, Any]) -> dict[str, Any]:
        """Return the children by what became of them; `pages` as Node's Job.getDependencies has it.

        Without pages: all. With `{kind: {cursor, count}}`: one page of each, and where it ended.
        """
        wanted = [kind for kind in _KINDS if pages.get(kind)]
        if wanted:
            found = await asyncio.gather(*(self._page(job_id, k, pages[k]) for k in wanted))
            return {name: value for page in found for name, value in page.items()}
        key = self._keys.job(job_id)
        processed, unprocessed, ignored, failed = await asyncio.gather(
            self._hash(job_id, ":processed"),
            self._link.command("SMEMBERS", f"{key}:dependencies"),
            self._hash(job_id, ":failed"),
            self._link.command("ZRANGE", f"{key}:unsuccessful", 0, -1),
        )
        return {
            "processed": _parsed(processed),
            "unprocessed": unprocessed,
            "failed": failed,
            "ignored": ignored,
        }

    async def dependencies_count(self, job_id: str, kinds: Mapping[str, Any]) -> dict[str, int]:
        """Script getDependencyCounts; all kinds unless some are asked for."""
        wanted = [kind for kind, asked in kinds.items() if asked] or [
            *("processed", "unprocessed", "ignored", "failed")
        ]
        key = self._keys.job(job_id)
        parts = (":processed", ":dependencies", ":failed", ":unsuccessful")
        counts = await self._run(
            "getDependencyCounts", tuple(key + part for part in parts), *wanted
        )
        return {kind: int(count or 0) for kind, count in zip(wanted, counts, strict=False)}

    async def remove_unprocessed_children(self, job_id: str) -> None:
        """Script removeUnprocessedChildren; those that are locked or have ended stay."""
        keys = (self._keys.job(job_id), self._keys.of("meta"))
        await self._run("removeUnprocessedChildren", keys, self._keys.base, job_id)

    async def remove_child_dependency(self, job_id: str, parent_key: str) -> bool:
        """Script removeChildDependency; False when the parent does not wait for this child.

        Raises errors.JobRefused when the parent is gone.
        """
        key = self._keys.job(job_id)
        code = await self._run("removeChildDependency", (self._keys.base,), key, parent_key)
        if code == _NO_PARENT:
            raise JobRefused(job_id, f"its parent {parent_key} is gone")
        return self._checked(job_id, code) == 0

    async def remove_deduplication_key(self, job_id: str, deduplication_id: str) -> bool:
        """Script removeDeduplicationKey: True if it was this job's, and is gone now."""
        key = f"{self._keys.base}de:{deduplication_id}"
        return bool(await self._run("removeDeduplicationKey", (key,), job_id))

    async def change_delay(self, job_id: str, delay_ms: int) -> None:
        """Script changeDelay. Raises errors.JobRefused for a job that is not delayed."""
        keys = self._keys.all_of("delayed", "meta", "marker", "events")
        now_ms = self._clock.now_ms()
        code = await self._run(
            "changeDelay", keys, delay_ms, now_ms, job_id, self._keys.job(job_id)
        )
        self._checked(job_id, code, "is not delayed")

    async def change_priority(self, job_id: str, priority: int, *, lifo: bool) -> None:
        """Script changePriority."""
        keys = self._keys.all_of(
            *("wait", "paused", "meta", "prioritized", "active", "pc", "marker")
        )
        arguments = (priority, self._keys.base, job_id, 1 if lifo else 0)
        self._checked(job_id, await self._run("changePriority", keys, *arguments))

    async def promote(self, job_id: str) -> None:
        """Script promote. Raises errors.JobRefused for a job that is not delayed."""
        keys = self._keys.all_of(
            *("delayed", "wait", "paused", "meta", "prioritized", "active", "pc", "events"),
            "marker",
        )
        code = await self._run("promote", keys, self._keys.base, job_id)
        self._checked(job_id, code, "is not delayed")

    async def retry(
        self, job_id: str, state: Finished, *, lifo: bool, made: bool, started: bool
    ) -> None:
        """Script reprocessJob; `made`, `started`: begin to count those attempts anew.

        Raises errors.JobRefused for a job that has not ended so.
        """
        keys = (
            *(self._keys.job(job_id), self._keys.of("events"), self._keys.of(state)),
            *self._keys.all_of("wait", "meta", "active", "marker", "prioritized", "pc"),
        )
        arguments = (
            *(job_id, "RPUSH" if lifo else "LPUSH"),
            *("failedReason" if state == "failed" else "returnvalue", state),
            *("1" if made else "0", "1" if started else "0"),
        )
        code = await self._run("reprocessJob", keys, *arguments)
        self._checked(job_id, code, f"is not {state}")

    async def remove(self, job_id: str, *, children: bool) -> None:
        """Script removeJob. Raises errors.JobRefused for a job that is locked or a scheduler's."""
        keys = (self._keys.job(job_id), self._keys.of("repeat"))
        arguments = (job_id, 1 if children else 0, self._keys.base)
        code = await self._run("removeJob", keys, *arguments)
        if code == _SCHEDULED:
            raise JobRefused(job_id, "belongs to a job scheduler")
        if not code:
            raise JobRefused(job_id, "is locked by a worker")

    async def clear_logs(self, job_id: str, keep: int | None) -> None:
        """Remove the log but for the last `keep` rows."""
        key = f"{self._keys.job(job_id)}:logs"
        if keep:
            await self._link.command("LTRIM", key, -keep, -1)
        else:
            await self._link.command("DEL", key)

    async def _page(self, job_id: str, kind: str, page: Any) -> dict[str, Any]:
        command, part = _KINDS[kind]
        asked = page if isinstance(page, dict) else {}
        cursor, count = int(asked.get("cursor", 0)), int(asked.get("count", _PAGE))
        key = self._keys.job(job_id) + part
        following = f"next{kind.capitalize()}Cursor"
        if command == "ZRANGE":
            found: Any = await self._link.command(command, key, cursor, cursor + count - 1)
            return {kind: found, following: cursor + count}
        after, found = await self._link.command(command, key, cursor, "COUNT", count)
        if command == "HSCAN":
            found = dict(zip(found[::2], found[1::2], strict=True))
        return {kind: _parsed(found) if kind == "processed" else found, following: int(after)}

    async def _hash(self, job_id: str, part: str) -> dict[str, str]:
        flat = await self._link.command("HGETALL", self._keys.job(job_id) + part)
        return dict(zip(flat[::2], flat[1::2], strict=True))

    async def _run(self, script: str, keys: tuple[str, ...], *arguments: str | int) -> Any:
        return await self._link.call(self._scripts[script], keys, *arguments)

    def _checked(self, job_id: str, code: int, refusal: str = "") -> int:
        if code == _GONE:
            raise JobGone(job_id)
        if code < 0:
            raise JobRefused(job_id, refusal or f"the script answered {code}")
        return code


def _parsed(results: Mapping[str, str]) -> dict[str, Any]:
    return {child: from_json(text) for child, text in results.items()}
