"""What is asked, in which order, and what each request has to come to: fixed by one seed.

Classes stand here as a person would say them; nothing of ours that classifies is asked.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from bench.track.visitors import address
from bench.track.wire import request_bytes
from campaign_worker.settings.kinds import SigningKey
from campaign_worker.tracking.tokens import Keyring, Token, TokenKind
from tests.fixtures.mailed import Mailed

KEY = SigningKey("chaos", "a-secret-of-a-chaos-run-0123456789ab")
FOREIGN = (
    SigningKey("chaos", "the-secret-of-somebody-else-012345678"),
    SigningKey("other", "the-secret-of-somebody-else-012345678"),
)

LOOP = 60
LOOP_LIMIT = 20
"""Requests in a loop, and how many of one link a tracker records in a minute."""

REQUESTS_PER_LOOP = 5000

_CHROME = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"


class Class(enum.Enum):
    """The class of a row, and whether it counts as a machine's."""

    HUMAN = ("human", False)
    PROXY = ("privacy_proxy", False)
    APPLE = ("privacy_proxy", True)
    PREFETCH = ("prefetch", True)
    SCANNER = ("scanner", True)


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who asks, and as what that counts at an open and at a click; None: it never does that."""

    agent: str | None
    open: Class | None
    click: Class | None
    headers: Mapping[str, str] = field(default_factory=dict)


PEOPLE = (
    Visitor(f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {_CHROME}", Class.HUMAN, Class.HUMAN),
    Visitor(f"Mozilla/5.0 (Linux; Android 14; Pixel 8) {_CHROME}", Class.HUMAN, Class.HUMAN),
    Visitor(
        "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15"
        " (KHTML, like Gecko) Mobile/15E148",
        Class.HUMAN,
        Class.HUMAN,
    ),
    Visitor(
        "Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0",
        Class.HUMAN,
        Class.HUMAN,
    ),
    Visitor(
        "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)",
        Class.PROXY,
        None,
    ),
    Visitor(
        "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html",
        Class.PROXY,
        None,
    ),
)
MACHINES = (
    Visitor("Mozilla/5.0", Class.APPLE, Class.SCANNER),
    Visitor("Mozilla/5.0 (compatible; Barracuda Sentinel)", Class.SCANNER, Class.SCANNER),
    Visitor("python-requests/2.32.3", Class.SCANNER, Class.SCANNER),
    Visitor(None, Class.SCANNER, Class.SCANNER),
    Visitor(
        f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {_CHROME}",
        Class.PREFETCH,
        Class.PREFETCH,
        {"Sec-Purpose": "prefetch;prerender"},
    ),
)


@dataclass(frozen=True, slots=True)
class Kind:
    """What rows of the same requests have in common; times are what tells them apart."""

    message: int
    kind: str
    link: int | None
    head: bool
    agent: str | None


@dataclass(frozen=True, slots=True)
class Shot:
    """One request, the answer that it has to get, and the row; `kind` None: none may come of it."""

    request: bytes
    status: HTTPStatus
    location: str | None = None
    kind: Kind | None = None
    seen_as: Class = Class.SCANNER


@dataclass(frozen=True, slots=True)
class Visit:
    """Requests that belong together: at the same moment, or each after the answer before."""

    shots: tuple[Shot, ...]
    at_once: bool = False


class Planner:
    """Makes visits; the same seed makes the same."""

    def __init__(self, mailed: Mailed, seed: int) -> None:
        self._mailed = mailed
        self._dice = random.Random(seed)  # noqa: S311 - repeatable, not secret
        self._ring = Keyring([KEY])
        self._foreign = [Keyring([key]) for key in FOREIGN]
        self._clients = 0

    def visits(self, requests: int) -> list[Visit]:
        """Plan visits of exactly so many requests; what is left over at the end are opens."""
        makers: dict[Callable[[], Visit], int] = {
            self._read: 42,
            self._clicked: 16,
            self._again: 12,
            self._machine: 12,
            self._burst: 2,
            self._head_then_get: 2,
            self._forged: 10,
            self._leave: 2,
            self._look_at_the_page: 2,
        }
        found = [self._loop() for _ in range(max(1, requests // REQUESTS_PER_LOOP))]
        count = LOOP * len(found)
        for maker in self._dice.choices(list(makers), list(makers.values()), k=requests):
            visit = maker()
            if count + len(visit.shots) > requests:
                visit = self._read()
            found.append(visit)
            count += len(visit.shots)
            if count == requests:
                break
        self._dice.shuffle(found)
        return found

    def _message(self) -> int:
        return self._dice.choice(self._mailed.messages)

    def _link(self) -> int:
        return self._dice.choice(self._mailed.links)

    def _read(self) -> Visit:
        return Visit((self._open(self._dice.choice(PEOPLE), self._message()),))

    def _clicked(self) -> Visit:
        return Visit((self._click(self._dice.choice(PEOPLE[:4]), self._message(), self._link()),))

    def _again(self) -> Visit:
        """Somebody's client asks two or three times: each counts, and is one person still."""
        person, message = self._dice.choice(PEOPLE[:4]), self._message()
        at_once = self._dice.random() < 0.5
        shot = self._open(person, message)
        if self._dice.random() < 0.4:
            shot = self._click(person, message, self._link())
        return Visit((shot,) * self._dice.randint(2, 3), at_once)

    def _loop(self) -> Visit:
        """Something of a person's asks on and on; a tracker records so many and no more."""
        shot = self._open(self._dice.choice(PEOPLE[:4]), self._message())
        return Visit((shot,) * LOOP, at_once=True)

    def _machine(self) -> Visit:
        machine, message = self._dice.choice(MACHINES), self._message()
        if self._dice.random() < 0.5:
            return Visit((self._open(machine, message),))
        return Visit((self._click(machine, message, self._link()),))

    def _burst(self) -> Visit:
        """All links of a mail at the same moment, by what looks like a person."""
        person, message = self._dice.choice(PEOPLE[:4]), self._message()
        shots = [self._click(person, message, link) for link in self._mailed.links]
        return Visit(tuple(shots), at_once=True)

    def _head_then_get(self) -> Visit:
        person, message, link = self._dice.choice(PEOPLE[:4]), self._message(), self._link()
        head = self._click(person, message, link, method="HEAD")
        return Visit((head, self._click(person, message, link)))

    def _leave(self) -> Visit:
        """One-click, as a mailbox provider posts it (RFC 8058, 3.1)."""
        message = self._message()
        agent = "Gmail Actions"
        request = self._request(
            "POST",
            f"/u/{self._token(TokenKind.UNSUBSCRIBE, message)}",
            {"User-Agent": agent, "Content-Type": "application/x-www-form-urlencoded"},
            b"List-Unsubscribe=One-Click",
        )
        kind = Kind(message, "unsubscribe", None, head=False, agent=agent)
        return Visit((Shot(request, HTTPStatus.OK, kind=kind, seen_as=Class.HUMAN),))

    def _look_at_the_page(self) -> Visit:
        path = f"/u/{self._token(TokenKind.UNSUBSCRIBE, self._message())}"
        agent = self._dice.choice((*PEOPLE[:4], *MACHINES)).agent
        headers = {} if agent is None else {"User-Agent": agent}
        return Visit((Shot(self._request("GET", path, headers), HTTPStatus.OK),))

    def _forged(self) -> Visit:
        message, agent = self._message(), self._dice.choice(PEOPLE).agent or ""
        path = self._dice.choice(list(self._forgeries(message)))
        method = self._dice.choice(("GET", "GET", "HEAD"))
        request = self._request(method, path, {"User-Agent": agent})
        return Visit((Shot(request, HTTPStatus.NOT_FOUND),))

    def _forgeries(self, message: int) -> Iterator[str]:
        click, opened = self._token(TokenKind.CLICK, message), self._token(TokenKind.OPEN, message)
        place = self._dice.randrange(len(click))
        letter = "A" if click[place] != "A" else "B"
        yield f"/c/{click[:place]}{letter}{click[place + 1 :]}?url=https://evil.example/"
        yield f"/c/{click[: self._dice.randrange(len(click))]}"
        yield f"/o/{opened[:-4]}.gif"
        yield f"/c/{opened}"
        yield f"/o/{click}.gif"
        yield f"/u/{opened}"
        yield f"/c/{'A' * 6000}"
        for ring in self._foreign:
            yield f"/c/{ring.sign(Token(TokenKind.CLICK, message, link_id=self._link()))}"

    def _open(self, who: Visitor, message: int) -> Shot:
        path = f"/o/{self._token(TokenKind.OPEN, message)}.gif"
        request = self._request("GET", path, _headers(who))
        kind = Kind(message, "open", None, head=False, agent=who.agent)
        return Shot(request, HTTPStatus.OK, kind=kind, seen_as=who.open or Class.SCANNER)

    def _click(self, who: Visitor, message: int, link: int, *, method: str = "GET") -> Shot:
        token = self._ring.sign(Token(TokenKind.CLICK, message, link_id=link))
        # What stands unsigned beside the token leads nobody anywhere.
        more = "?url=https://evil.example/" if self._dice.random() < 0.1 else ""
        request = self._request(method, f"/c/{token}{more}", _headers(who))
        kind = Kind(message, "click", link, head=method == "HEAD", agent=who.agent)
        seen_as = Class.SCANNER if kind.head else who.click or Class.SCANNER
        return Shot(request, HTTPStatus.FOUND, self._mailed.urls[link], kind, seen_as)

    def _token(self, kind: TokenKind, message: int) -> str:
        link = self._link() if kind is TokenKind.CLICK else None
        return self._ring.sign(Token(kind, message, link_id=link))

    def _request(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes = b""
    ) -> bytes:
        self._clients += 1
        named = {**headers, "X-Forwarded-For": address(self._clients)}
        return request_bytes(method, path, named, body=body)


def _headers(who: Visitor) -> dict[str, str]:
    agent = {} if who.agent is None else {"User-Agent": who.agent}
    return {**agent, **who.headers}
