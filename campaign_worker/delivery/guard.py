"""May this mail go out now? A pure function over facts read after the row was locked."""

from __future__ import annotations

from dataclasses import dataclass, replace

PAUSED_RECHECK_SECONDS = 600.0
PAUSED_RECHECK_MOST_SECONDS = 6 * 3600.0
"""How long the job of a paused or draft campaign sleeps before it looks again: at first, at most.

Nobody waits for that: whoever resumes a campaign has its jobs woken.
"""

RESTING = ("campaign_paused", "campaign_draft")
"""Reasons to wait that all mails of the campaign share."""

ALREADY_SENT = "already_sent"
"""Why a mail is skipped that the app has sent itself; the app is not told about it."""

PREVIOUS_STEP_RECHECK_SECONDS = 60.0
"""How long a follow-up's job sleeps while the step before it is still open."""


@dataclass(frozen=True, slots=True)
class GuardFacts:
    """What Postgres said about one locked row.

    `previous_*` are of the last step before that has a row, if any. `step_known` is False when the
    follow-up was taken out of its campaign. `step_before` is the number of the step before it
    there, 0 for the first mail; None: one less. `suppressed` is the reason that the address is
    suppressed for, else None. `waited_seconds`: since the row was due. `spread`, from 0 to 1, keeps
    apart what would come back in one moment. `app_refusal` is why an app that a contract serves
    does not want the mail, by its own tables.
    """

    campaign_status: str | None
    unsubscribed: bool = False
    replied: bool = False
    suppressed: str | None = None
    step: int = 0
    step_known: bool = True
    step_before: int | None = None
    condition: str = "always"
    stop_on_reply: bool = True
    previous_state: str | None = None
    previous_opened: bool = False
    previous_clicked: bool = False
    waited_seconds: float = 0.0
    spread: float = 0.5
    app_refusal: str | None = None


@dataclass(frozen=True, slots=True)
class AppFacts:
    """What the tables of an app that a contract serves say of one mail, read for its claim.

    `gone`: they do not know it any more. `sent_step`: the last step that the app has sent itself,
    or -1. `opened`, `clicked`: the step before this one, by the app's own tracking.
    """

    gone: bool = False
    cancelled: bool = False
    sent_step: int = -1
    opened: bool = False
    clicked: bool = False

    def told(self, facts: GuardFacts) -> GuardFacts:
        """Give what the guard decides by, with what the app says."""
        refusal = facts.app_refusal
        # First of all: what has been sent is never called anything else.
        if self.sent_step >= facts.step:
            refusal = ALREADY_SENT
        elif self.gone:
            refusal = "gone_from_the_app"
        elif self.cancelled:
            refusal = "cancelled_by_the_app"
        before = facts.step - 1 if facts.step_before is None else facts.step_before
        sent_before = facts.step > 0 and self.sent_step >= before
        unknown = facts.previous_state not in ("sending", "in_doubt")
        return replace(
            facts,
            app_refusal=refusal,
            previous_state="sent" if sent_before and unknown else facts.previous_state,
            previous_opened=facts.previous_opened or self.opened,
            previous_clicked=facts.previous_clicked or self.clicked,
        )


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
    if facts.app_refusal is not None:
        return Skip(facts.app_refusal)
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
