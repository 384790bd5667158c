"""Puts off the waiting jobs of a group, many in one step, and calls them back at once.

Which jobs were put off is noted in Redis, for an hour: they come back by themselves before that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from campaign_worker.queue.keys import QueueKeys
from campaign_worker.queue.protocol import Call
from campaign_worker.queue.scripts import load_scripts
from campaign_worker.queue.survey import ListReader, Run

if TYPE_CHECKING:
    from campaign_worker.queue.wire import Argument

LOOK = 1000
"""Jobs that one script looks at: Redis does nothing else meanwhile, for some milliseconds."""

_SCRIPTS_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Group:
    """Jobs of these names whose data has `value` in the first of `fields` that it has.

    `noted`: under which name they are called back; "" is `value`.
    """

    value: str
    job_names: tuple[str, ...]
    fields: tuple[str, ...]
    noted: str = ""


class Aside:
    """Fulfilled by a producer's ways to Redis; all methods raise errors.RedisAway."""

    def __init__(
        self,
        keys: QueueKeys,
        run: Run,
        now_ms: Callable[[], Awaitable[int]],
        read: ListReader,
        promote: Callable[[Sequence[str]], Awaitable[int]],
    ) -> None:
        self._keys = keys
        self._run = run
        self._now_ms = now_ms
        self._read = read
        self._promote = promote
        self._scripts = load_scripts()

    async def put_off(self, group: Group, *, delay_ms: int, spread_ms: int) -> tuple[int, int]:
        """Put off the group's jobs among the oldest that wait; (looked at, put off)."""
        now_ms = await self._now_ms()
        due = (now_ms + delay_ms, now_ms + delay_ms + spread_ms)
        keys = (
            *self._keys.all_of("wait", "delayed", "marker"),
            self._noted(group.noted or group.value),
        )
        head: tuple[Argument, ...] = (self._keys.base, LOOK, *due, group.value)
        names: tuple[Argument, ...] = (len(group.job_names), *group.job_names, *group.fields)
        call = Call(self._scripts["setAside"], keys, head + names)
        replies = await self._run([call] * _SCRIPTS_AT_ONCE)
        return sum(int(looked) for looked, _ in replies), sum(int(moved) for _, moved in replies)

    async def call_back(self, value: str, limit: int) -> int | None:
        """Let jobs run at once that were put off; how many did, None when none are left."""
        key = self._noted(value)
        job_ids = await self._read(key, 0, limit - 1)
        if not job_ids:
            return None
        promoted = await self._promote(job_ids)
        await self._run([Call(self._scripts["callBack"], (key,), tuple(job_ids))])
        return promoted

    def _noted(self, value: str) -> str:
        return f"{self._keys.base}aside:{value}"
