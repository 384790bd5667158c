"""Senders whose mails a server takes none of: they rest, alone, and one mail at a time tries again.

A refusal of MAIL rests its sender at once. So does the eleventh rejection in a row: some servers
say only after the dot whose From they do not know. One for each process; spends no attempt.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from metrics import IntakeHeld, Listener

log = structlog.get_logger(__name__)

MOST_REJECTED = 10
"""Rejections in a row, none of the sender's mails accepted between, that are each mail's own."""

MOST_SECONDS = 600.0
"""The longest rest, unless the floor is longer."""

SENDER_RESTS = "sender_rests"
"""Why a mail waits that was not tried: all mails of its sender wait."""

_SHORTEST_SECONDS = 1.0
_MOST_SENDERS = 10_000
_TOLD_SECONDS = 900.0
"""How long after its rest a sender is still told of: its jobs have come back by then."""

_NAMED = 3


@dataclass(frozen=True, slots=True)
class Sender:
    """An envelope address as one campaign (None: mails of no campaign) uses it at a transport.

    So that a campaign whose content is refused holds up no other campaign of the same address.
    """

    transport: str
    campaign_id: int | None
    address: str

    def __str__(self) -> str:
        # A request that is repeated as it is has no envelope.
        domain = self.address.rpartition("@")[2] or "repetitions"
        return domain if self.campaign_id is None else f"{domain} in campaign {self.campaign_id}"


@dataclass(frozen=True, slots=True)
class Wait:
    """Its sender rests for so long; `detail` is for the row."""

    detail: str
    seconds: float


@dataclass(slots=True)
class _Trouble:
    """What a server has said of a sender since it last accepted a mail of it."""

    rejected: int = 0
    since: float | None = None
    rests_until: float = -math.inf
    detail: str = ""
    told: bool = False


class Senders:
    """Which senders rest. `floor_seconds` is the shortest rest; `clock` is monotonic, in seconds.

    A rest is as long as the trouble has lasted, so that ever fewer mails try: at least the floor,
    at most MOST_SECONDS.
    """

    def __init__(
        self,
        listener: Listener,
        *,
        floor_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._listener = listener
        self._floor_seconds = max(floor_seconds, _SHORTEST_SECONDS)
        self._clock = clock
        self._troubles: dict[Sender, _Trouble] = {}
        self._told: Counter[str] = Counter()

    @property
    def reasons(self) -> list[str]:
        """Whose mails wait at which transport, for /health."""
        resting: dict[str, list[str]] = {}
        for sender, trouble in self._troubles.items():
            if trouble.told:
                resting.setdefault(sender.transport, []).append(str(sender))
        return [f"{_reason(name)}: {_some(senders)}" for name, senders in resting.items()]

    def wait(self, sender: Sender) -> Wait | None:
        """Say how long a mail has to wait; None for the one that may try now."""
        trouble = self._troubles.get(sender)
        if trouble is None or trouble.since is None:
            return None
        now = self._clock()
        if now < trouble.rests_until:
            return Wait(trouble.detail, trouble.rests_until - now)
        # The others wait for what this one will learn; if it learns nothing, another one tries.
        trouble.rests_until = now + self._floor_seconds
        return None

    def refused(self, sender: Sender, row: int, detail: str) -> Wait:
        """Hear that the server refused the sender itself: from now on it rests."""
        trouble = self._trouble(sender)
        trouble.detail = f"sender refused: {detail}"
        return Wait(trouble.detail, self._rest(sender, trouble, row))

    def rejected(self, sender: Sender, row: int) -> None:
        """Hear that one mail was rejected for good: too many in a row, and its sender rests."""
        trouble = self._trouble(sender)
        trouble.rejected += 1
        if trouble.rejected > MOST_REJECTED:
            # Not in the server's words: they may name the recipient of that one mail.
            trouble.detail = (
                f"{trouble.rejected} mails in a row were rejected, the last is row {row}"
            )
            self._rest(sender, trouble, row)

    def passed(self, sender: Sender) -> None:
        """Hear that MAIL was taken, whatever came of the mail: the sender itself is not refused."""
        trouble = self._troubles.get(sender)
        if trouble is not None and not trouble.rejected:
            self.accepted(sender)

    def accepted(self, sender: Sender) -> None:
        """Hear that a mail was accepted: nothing stands against its sender."""
        trouble = self._troubles.pop(sender, None)
        if trouble is not None and trouble.told:
            log.warning("a server takes mails of a sender again", **_about(sender))
            self._tell_over(sender, trouble)

    def sweep(self) -> None:
        """Stop telling of senders that no mail has tried for long: there is none left to wait."""
        over = self._clock() - _TOLD_SECONDS
        for sender, trouble in self._troubles.items():
            if trouble.told and trouble.rests_until < over:
                log.info("no mail tries a sender any more that was refused", **_about(sender))
                self._tell_over(sender, trouble)

    def _trouble(self, sender: Sender) -> _Trouble:
        if sender not in self._troubles and len(self._troubles) >= _MOST_SENDERS:
            # The oldest is asked about again, and refused again, if it still matters.
            oldest = next(iter(self._troubles))
            self._tell_over(oldest, self._troubles.pop(oldest))
        return self._troubles.setdefault(sender, _Trouble())

    def _rest(self, sender: Sender, trouble: _Trouble, row: int) -> float:
        now = self._clock()
        if trouble.since is None:
            trouble.since = now
        seconds = max(self._floor_seconds, min(now - trouble.since, MOST_SECONDS))
        trouble.rests_until = max(trouble.rests_until, now + seconds)
        if not trouble.told:
            self._tell(sender, trouble, row, seconds)
        return trouble.rests_until - now

    def _tell(self, sender: Sender, trouble: _Trouble, row: int, seconds: float) -> None:
        trouble.told = True
        log.error(
            "a server takes no mail of a sender: its mails wait",
            row=row,
            rest_seconds=seconds,
            **_about(sender),
        )
        self._told[sender.transport] += 1
        if self._told[sender.transport] == 1:
            self._listener.on_event(IntakeHeld(_reason(sender.transport), held=True))

    def _tell_over(self, sender: Sender, trouble: _Trouble) -> None:
        if not trouble.told:
            return
        trouble.told = False
        self._told[sender.transport] -= 1
        if not self._told[sender.transport]:
            self._listener.on_event(IntakeHeld(_reason(sender.transport), held=False))


def _reason(transport: str) -> str:
    return f"refused senders of {transport}"


def _about(sender: Sender) -> dict[str, str]:
    return {"transport": sender.transport, "sender": str(sender)}


def _some(senders: list[str]) -> str:
    named, more = sorted(senders)[:_NAMED], len(senders) - _NAMED
    return ", ".join(named) + (f" and {more} more" if more > 0 else "")
