"""How a job may end, as a processor says it: the closed set of values it can return.

Knows no Redis and no worker. What each ending does to the job in Redis is decided in finish.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None


@dataclass(frozen=True, slots=True)
class Completed:
    """The job is done; `value` becomes its `returnvalue`."""

    value: Json = None


@dataclass(frozen=True, slots=True)
class Failed:
    """An attempt failed.

    `retry=False` fails the job for good. With `delay_ms=None` the job's own `attempts` and
    `backoff` decide. A `delay_ms` (milliseconds, 0 = at once) overrules both: the job is tried
    again after exactly that delay, the attempt is counted, and `attempts` sets no limit, because
    the caller keeps the count.
    """

    error: BaseException
    retry: bool = True
    delay_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Deferred:
    """Not now: back at `until_ms` (epoch milliseconds, Redis' clock), with no attempt counted."""

    until_ms: int


@dataclass(frozen=True, slots=True)
class HandedBack:
    """Given up untouched: to the head of the queue at once, no attempt and no stall counted."""

    reason: str


Ending: TypeAlias = Completed | Failed | Deferred | HandedBack
