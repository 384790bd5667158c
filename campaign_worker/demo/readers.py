"""The readers: they open, click and unsubscribe, by HTTP, whatever the SMTP server accepts.

They write down what they did and what was answered; counts nothing of it, and follows no link. The
base of tracked links is a reserved domain, whose place the tracker on this machine takes.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Final

import aiohttp

from campaign_worker.demo.campaign import destinations, number_of
from campaign_worker.demo.letters import Letter, Mailbox, letter_of
from campaign_worker.demo.options import FOLLOW_UP_DELAY_SECONDS
from campaign_worker.demo.people import Act, Part, person_of
from campaign_worker.demo.reading import Reading, Seen
from campaign_worker.embedded.smtp_server import ReceivedMail
from campaign_worker.errors import DemoFailed
from campaign_worker.tracking.classify import TIMING, EventKind
from shutdown import end

BASE: Final = "https://track.demo.example"
IN_FLIGHT: Final = 8
REQUEST_SECONDS: Final = 30.0
POLL_SECONDS: Final = 0.1
IN_TIME_SECONDS: Final = FOLLOW_UP_DELAY_SECONDS - 2.0
"""An unsubscribe that is answered so soon after the mail has 2 seconds to reach whoever sends."""

_TRIES: Final = 50
_OK, _FOUND, _AWAY = 200, 302, 503
_FORM: Final = {"List-Unsubscribe": "One-Click"}


class Readers:
    """Reads a mailbox from start() on; finished when no more mails come and all were read."""

    def __init__(self, mailbox: Mailbox, session: aiohttp.ClientSession) -> None:
        self._mailbox = mailbox
        self._session = session
        self._tracker_url = ""
        self._seen: Counter[Seen] = Counter()
        self._unsubscribed: dict[str, bool] = {}
        self._wrong: Counter[str] = Counter()
        self._mails: Counter[str] = Counter()
        self._slots = asyncio.Semaphore(IN_FLIGHT)
        self._complete = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def answered(self) -> int:
        """How many opens, clicks and recipients that unsubscribed Postgres has to know of."""
        return self._seen.total() + len(self._unsubscribed)

    @property
    def finished(self) -> bool:
        """Whether all is read."""
        return self._task is not None and self._task.done()

    def start(self, tracker_url: str) -> None:
        """Begin; the tracker answers at this URL, which has no slash at its end."""
        self._tracker_url = tracker_url
        self._task = asyncio.create_task(self._read_all(), name="readers")

    def no_more_mails(self) -> None:
        """All mails are accepted: whoever has read them is done."""
        self._complete.set()

    def check(self) -> None:
        """Raise what ended the readers before their time: DemoFailed."""
        if self._task is not None and self._task.done() and not self._task.cancelled():
            error = self._task.exception()
            if isinstance(error, BaseExceptionGroup):
                raise error.exceptions[0]
            if error is not None:
                raise error

    async def aclose(self) -> None:
        """End them wherever they are. Idempotent."""
        if self._task is not None:
            await end(self._task)

    def reading(self) -> Reading:
        """Return what was done so far."""
        return Reading(dict(self._seen), dict(self._unsubscribed), dict(+self._wrong))

    async def _read_all(self) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                # Before the look: what came until then is in it.
                complete = self._complete.is_set()
                mails = self._mailbox.new()
                for mail in mails:
                    for address in mail.recipients:
                        self._hand_over(group, mail, address)
                if complete and not mails:
                    return
                if not mails:
                    await asyncio.sleep(POLL_SECONDS)

    def _hand_over(self, group: asyncio.TaskGroup, mail: ReceivedMail, address: str) -> None:
        number = number_of(address)
        if number is None:
            return
        first = not self._mails[address]
        self._mails[address] += 1
        person = person_of(number)
        acts = person.acts if first else person.again
        if acts:
            letter = letter_of(mail, address, BASE)
            group.create_task(self._read(letter, acts, destinations(number, first=first)))

    async def _read(self, letter: Letter, acts: tuple[Act, ...], leads_to: tuple[str, ...]) -> None:
        for act in acts:
            if not act.at_once:
                await _settled(letter)
            match act.part:
                case Part.PICTURE:
                    await self._open(letter, act)
                case Part.FIRST_LINK:
                    await self._click(letter, act, leads_to[:1])
                case Part.LINKS:
                    await self._click(letter, act, leads_to)
                case Part.LEAVE:
                    await self._look(letter, act)
                case Part.ONE_CLICK:
                    await self._unsubscribe(letter, act)

    async def _open(self, letter: Letter, act: Act) -> None:
        if not letter.picture:
            self._wrong["a mail had no picture"] += 1
            return
        status, _ = await self._ask(act, letter.picture)
        if self._is(status, _OK, "a picture"):
            self._note(letter, act, EventKind.OPEN)

    async def _click(self, letter: Letter, act: Act, leads_to: tuple[str, ...]) -> None:
        if len(letter.links) < len(leads_to):
            self._wrong["a mail had too few tracked links"] += 1
        for url, destination in zip(letter.links, leads_to, strict=False):
            status, location = await self._ask(act, url)
            if self._is(status, _FOUND, "a link"):
                self._note(letter, act, EventKind.CLICK)
                self._wrong["a link led elsewhere"] += location != destination

    async def _look(self, letter: Letter, act: Act) -> None:
        if not letter.leave:
            self._wrong["a mail had no link to unsubscribe"] += 1
            return
        status, _ = await self._ask(act, letter.leave)
        self._is(status, _OK, "the page to unsubscribe")

    async def _unsubscribe(self, letter: Letter, act: Act) -> None:
        """Send RFC 8058's POST, again while the tracker asks for that, as mailboxes do."""
        if not letter.one_click:
            self._wrong["a mail had no one-click unsubscribe"] += 1
            return
        status = _AWAY
        for _ in range(_TRIES):
            status, _ = await self._ask(act, letter.one_click, form=_FORM)
            if status != _AWAY:
                break
            await asyncio.sleep(POLL_SECONDS)
        if self._is(status, _OK, "an unsubscribe"):
            in_time = time.time() - letter.received_at < IN_TIME_SECONDS
            self._unsubscribed[letter.address] = in_time

    async def _ask(
        self, act: Act, url: str, form: dict[str, str] | None = None
    ) -> tuple[int, str | None]:
        """Ask once; the status and where it leads. Raises DemoFailed when nobody answers."""
        try:
            async with (
                self._slots,
                self._session.request(
                    act.method,
                    self._tracker_url + url.removeprefix(BASE),
                    headers={"User-Agent": act.agent.text},
                    data=form,
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS),
                ) as answer,
            ):
                await answer.read()
                return answer.status, answer.headers.get("Location")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            # Whether such a request counts, nobody can know.
            problem = f"the tracker did not answer: {type(error).__name__}"
            raise DemoFailed("readers", problem) from error

    def _note(self, letter: Letter, act: Act, kind: EventKind) -> None:
        self._seen[Seen(letter.message_id, kind, act.agent.visitor, act.agent.machine)] += 1

    def _is(self, status: int, due: int, what: str) -> bool:
        if status != due:
            self._wrong[f"{what} was answered with {status}"] += 1
        return status == due


async def _settled(letter: Letter) -> None:
    """Wait until nobody can take a request for a prefetch, however late it is recorded.

    The mail's row was marked before the final dot, which the SMTP server took its time to answer.
    """
    due_at = letter.received_at + TIMING.prefetch_seconds_after_send
    await asyncio.sleep(max(0.0, due_at - time.time()))
