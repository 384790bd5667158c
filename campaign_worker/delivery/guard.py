"""May this mail go out now? A pure function over facts read after the row was locked."""

from __future__ import annotations

from dataclasses import dataclass

PAUSED_RECHECK_SECONDS = 600.0
PAUSED_RECHECK_MOST_SECONDS = 6 * 3600.0
"""How long the job of a paused or draft campaign sleeps before it looks again: at first, at most.

Nobody waits for that: whoever resumes a campaign has its jobs woken.
"""

RESTING = ("campaign_paused", "campaign_draft")
"""Reasons to wait that all mails of the campaign share."""

PREVIOUS_STEP_RECHECK_SECONDS = 60.0
"""How long a follow-up's job sleeps while the step before it is still open."""


@dataclass(frozen=True, slots=True)
class GuardFacts:
    """What Postgres said about one locked row.

    `previous_*` are of the last step before that has a row, if any. `step_known` is False when the
    follow-up was taken out of its campaign. `suppressed` is the reason that the address is
    suppressed for, else None. `waited_seconds`: since the row was due. `spread`, from 0 to 1, keeps
    apart what would come back in one moment.
    """

    campaign_status: str | None
    unsubscribed: bool = False
    replied: bool = False
    suppressed: str | None = None
    step: int = 0
    step_known: bool = True
    condition: str = "always"
    stop_on_reply: bool = True
    previous_state: str | None = None
    previous_opened: bool = False
    previous_clicked: bool = False
    waited_seconds: float = 0.0
    spread: float = 0.5


@dataclass(frozen=True, slots=True)
class Go:
    """Nothing speaks against it."""


@dataclass(frozen=True, slots=True)
class Skip:
    """It must never go out; `reason` is kept in the row."""

    reason: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Not now; look again after `seconds`."""

    reason: str
    seconds: float


Decision = Go | Skip | Wait


def decide(facts: GuardFacts) -> Decision:
    """Decide by the first rule that applies: what can never change again comes first."""
    if facts.campaign_status == "cancelled":
        return Skip("campaign_cancelled")
    if facts.unsubscribed:
        return Skip("unsubscribed")
    if facts.suppressed is not None:
        return Skip(f"suppressed_{facts.suppressed}")
    if facts.campaign_status in ("paused", "draft"):
        seconds = paused_recheck_seconds(facts.waited_seconds, facts.spread)
        return Wait(f"campaign_{facts.campaign_status}", seconds)
    if facts.step > 0:
        return _decide_follow_up(facts)
    return Go()


def paused_recheck_seconds(waited_seconds: float, spread: float) -> float:
    """As long again as it has waited, so that the waits double; give or take a quarter."""
    seconds = min(max(waited_seconds, PAUSED_RECHECK_SECONDS), PAUSED_RECHECK_MOST_SECONDS)
    return seconds * (0.75 + spread / 2)


def _decide_follow_up(facts: GuardFacts) -> Decision:
    if not facts.step_known:
        return Skip("step_removed")
    if facts.replied and facts.stop_on_reply:
        return Skip("replied")
    # No row at all: this job came before that of the first mail.
    if facts.previous_state in (None, "scheduled", "sending", "in_doubt"):
        return Wait("previous_step_open", PREVIOUS_STEP_RECHECK_SECONDS)
    if facts.previous_state != "sent":
        return Skip("previous_step_not_sent")
    met = {
        "always": True,
        "opened": facts.previous_opened or facts.previous_clicked,
        "not_opened": not (facts.previous_opened or facts.previous_clicked),
        "clicked": facts.previous_clicked,
        "not_clicked": not facts.previous_clicked,
    }
    return Go() if met[facts.condition] else Skip(f"condition_{facts.condition}_not_met")
