"""How long a stop may take: what the platform grants, what of it is used, and what to warn about.

Owns no clock. Railway sends SIGTERM and, after the drain window, SIGKILL; its default window is 0 s
(docs.railway.com, Deployment Teardown).
"""

from __future__ import annotations

from dataclasses import dataclass

OFF_PLATFORM_SECONDS = 30.0
MARGIN_SECONDS = 3.0
LEAST_BUDGET_SECONDS = 1.0
_MARGIN_SHARE = 0.2
_OURS = "DRAIN_SECONDS"
_RAILWAYS = "RAILWAY_DEPLOYMENT_DRAINING_SECONDS"
_MEND = f"set the service variable {_RAILWAYS}=60 and deploy again"


@dataclass(frozen=True, slots=True)
class Drain:
    """`window_seconds` from SIGTERM to SIGKILL; `warnings` say what is doubtful about it."""

    window_seconds: float
    warnings: tuple[str, ...] = ()

    @property
    def stop_budget_seconds(self) -> float:
        """Seconds that a stop plans with: the window minus 3 s, or minus a fifth if that is less.

        Never under one second: where no window is known, jobs are still handed back at once.
        """
        margin = min(MARGIN_SECONDS, self.window_seconds * _MARGIN_SHARE)
        return max(self.window_seconds - margin, LEAST_BUDGET_SECONDS)


def drain_window(ours: float | None, railways: float | None, *, on_railway: bool) -> Drain:
    """Choose the window: Railway's variable, or the smaller where both are set and differ."""
    if railways is not None:
        return _railways_window(ours, railways)
    if not on_railway:
        return Drain(OFF_PLATFORM_SECONDS if ours is None else ours)
    if ours is None:
        text = (
            f"no drain window is set: Railway kills this worker right after SIGTERM, its jobs wait "
            f"for their locks to expire and mails may stay in doubt at every deploy ({_MEND})"
        )
        return Drain(0.0, (text,))
    text = (
        f"{_OURS}={ours:g}, but {_RAILWAYS} is not set: unless the service's draining "
        "time is set elsewhere, Railway grants 0 s and kills this worker in mid-drain "
        f"({_MEND})"
    )
    return Drain(ours, (text,))


def _railways_window(ours: float | None, railways: float) -> Drain:
    warnings: list[str] = []
    window = railways
    if ours is not None and ours != railways:
        window = min(ours, railways)
        warnings.append(
            f"{_RAILWAYS}={railways:g} and {_OURS}={ours:g} disagree: {window:g} s is used "
            f"(set both to the same number)"
        )
    if window == 0:
        warnings.append(
            f"the drain window is 0 s: jobs in flight are cut off at every deploy ({_MEND})"
        )
    return Drain(window, tuple(warnings))
