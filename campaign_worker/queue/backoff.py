"""How long a failed job waits before its next attempt (bullmq: backoffs.ts). Pure but for luck."""

from __future__ import annotations

import inspect
import math
import random
from typing import TYPE_CHECKING, Any

from campaign_worker.errors import SettingsError
from campaign_worker.queue.jobopts import bounded

if TYPE_CHECKING:
    from campaign_worker.queue.job import Job
    from campaign_worker.queue.options import BackoffStrategy


async def backoff_delay(
    job: Job, error: BaseException, strategy: BackoffStrategy | None
) -> int | None:
    """Milliseconds to wait; 0 means at once, None means that the strategy gives the job up (-1).

    Raises SettingsError for a backoff type that nobody provides and for what is no number, and what
    a custom strategy raises.
    """
    backoff = normalize(job.opts.get("backoff"))
    if backoff is None:
        return 0
    attempt = job.attempts_made + 1
    kind = backoff.get("type")
    # No set: a foreign one may not be hashable.
    if kind in ("fixed", "exponential"):
        delay = _number(backoff, "delay")
        if kind == "exponential":
            # Rounding half up, as JavaScript does.
            delay = math.floor(2 ** min(attempt - 1, 60) * delay + 0.5)
        return _jittered(delay, _number(backoff, "jitter"))
    if strategy is None:
        raise SettingsError("settings.backoffStrategy", f"no strategy for backoff {kind!r}")
    result = strategy(attempt, str(kind), error, job)
    chosen = await result if inspect.isawaitable(result) else result
    if chosen is None:
        return 0
    return None if chosen == -1 else max(0, math.floor(chosen))


def normalize(backoff: Any) -> dict[str, Any] | None:
    """`backoff` as `{type, delay, jitter}`; a bare number means fixed; None when there is none."""
    if isinstance(backoff, bool) or not backoff:
        # Node keeps `backoff: 0` as fixed 0, which waits as long as none.
        return None
    if isinstance(backoff, int | float):
        return {"type": "fixed", "delay": backoff} if math.isfinite(backoff) else None
    return backoff if isinstance(backoff, dict) else None


def _number(backoff: dict[str, Any], name: str) -> float:
    try:
        return bounded(float(backoff.get(name) or 0))
    except (TypeError, ValueError, OverflowError) as error:
        raise SettingsError(f"backoff.{name}", "is no number") from error


def _jittered(delay: float, jitter: float) -> int:
    if jitter <= 0:
        return max(0, math.floor(delay))
    return max(0, math.floor(random.random() * delay * jitter + delay * (1 - jitter)))  # noqa: S311 - spreads load, guards nothing
