"""Who reads the mails of a demo, and what each of them does with one. Values only.

What a request counts as must not depend on how fast this machine is: machines say by their user
agent that they are some, and people ask only when no mail can be too fresh any more.
"""

from __future__ import annotations

import enum
import random
from dataclasses import dataclass
from typing import Final

from campaign_worker.tracking.classify import Visitor

SEED: Final = "campaign-worker demo 1"


class Part(enum.Enum):
    """What of a mail is asked for."""

    PICTURE = "picture"
    FIRST_LINK = "first link"
    LINKS = "links"
    LEAVE = "unsubscribe link"
    ONE_CLICK = "one-click unsubscribe"


@dataclass(frozen=True, slots=True)
class Agent:
    """What asks, and the class that its requests must get."""

    text: str
    visitor: Visitor
    machine: bool


BROWSER: Final = Agent(
    "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0",
    Visitor.HUMAN,
    machine=False,
)
GMAIL: Final = Agent(
    "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)",
    Visitor.PRIVACY_PROXY,
    machine=False,
)
APPLE: Final = Agent("Mozilla/5.0", Visitor.PRIVACY_PROXY, machine=True)
FILTER: Final = Agent(
    "Mozilla/5.0 (compatible; Barracuda Sentinel (EE))", Visitor.SCANNER, machine=True
)


@dataclass(frozen=True, slots=True)
class Act:
    """One look at a part of a mail, by one HTTP method."""

    part: Part
    agent: Agent = BROWSER
    method: str = "GET"

    @property
    def at_once(self) -> bool:
        """Whether it comes with the mail: machines do not wait, and mailboxes unsubscribe."""
        return self.agent.machine or self.part is Part.ONE_CLICK


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody, `share` times among 20; `again` is done with follow-ups, `acts` with first mails.

    People do not get to their follow-ups: it would make the demo as long again.
    """

    name: str
    share: int
    acts: tuple[Act, ...] = ()
    again: tuple[Act, ...] = ()


_APPLE = (Act(Part.PICTURE, APPLE),)
_FILTER = (
    Act(Part.LINKS, FILTER, "HEAD"),
    Act(Part.LINKS, FILTER),
    # Nobody leaves by it: a GET never unsubscribes.
    Act(Part.LEAVE, FILTER),
)
PEOPLE: Final = (
    Person("reads", 6, (Act(Part.PICTURE),)),
    Person("reads twice", 2, (Act(Part.PICTURE), Act(Part.PICTURE))),
    Person("reads and clicks", 3, (Act(Part.PICTURE), Act(Part.FIRST_LINK))),
    Person("clicks without pictures", 1, (Act(Part.FIRST_LINK),)),
    Person("reads and clicks in Gmail", 1, (Act(Part.PICTURE, GMAIL), Act(Part.FIRST_LINK))),
    Person("lets Apple fetch pictures", 2, _APPLE, _APPLE),
    Person("is behind a mail filter", 1, _FILTER, _FILTER),
    Person("unsubscribes", 1, (Act(Part.ONE_CLICK, method="POST"),)),
    Person("does nothing", 3),
)
BLOCK: Final = sum(person.share for person in PEOPLE)
_DECK: Final = tuple(person for person in PEOPLE for _ in range(person.share))


def person_of(number: int) -> Person:
    """Return who a recipient is; the same in every run, and the shares in each 20 are exact."""
    block, place = divmod(number - 1, BLOCK)
    # Chance that has to be the same each time.
    return random.Random(f"{SEED} {block}").sample(_DECK, BLOCK)[place]  # noqa: S311
