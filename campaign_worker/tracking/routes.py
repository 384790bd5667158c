"""The routes that mails lead to: the picture, the links, the page to unsubscribe.

A request is read, classed, recorded and answered here; where its event goes is the recorder's. What
a request does is in its token and nowhere else. Sets no cookie, and a GET never unsubscribes.
"""

from __future__ import annotations

import asyncio
import base64
import functools
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from aiohttp import web

from campaign_worker.errors import DatabaseAway, InvalidToken
from campaign_worker.quick import Answered, Asked
from campaign_worker.tracking.answers import Answer
from campaign_worker.tracking.classify import EventKind, Hit, Visitor, classify
from campaign_worker.tracking.clients import ClientHashes, client_address, limited_as
from campaign_worker.tracking.clock import Clock
from campaign_worker.tracking.destinations import Destinations
from campaign_worker.tracking.events import (
    ALL_SECONDS,
    Secured,
    TrackingEvent,
    cleaned_agent,
    new_event_id,
    target_of,
)
from campaign_worker.tracking.limits import RateLimit
from campaign_worker.tracking.pages import ONE_CLICK, Page, Pages
from campaign_worker.tracking.recorder import Recorder
from campaign_worker.tracking.tokens import Keyring, Token, TokenKind
from metrics import Listener, TrackingRefused

Handler = Callable[[web.BaseRequest, str], Awaitable[web.StreamResponse]]
"""Answers a request whose path goes on with this text; the text has no query."""

MAX_FORM_BYTES: Final = 16 * 1024
FORM_SECONDS: Final = 5.0
RETRY_AFTER_SECONDS: Final = 30
_DESTINATIONS_KEPT: Final = 1024

# One transparent dot; GIF89a, the smallest that every mail program draws.
_GIF = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
_IMAGE: Final = {"Content-Type": "image/gif"}
# For whoever counts requests against events, as what answers.py says of one that is unsecured.
_LIMITED: Final = {"Tracking": "limited"}
_PICTURE = Answer(HTTPStatus.OK, _IMAGE, _GIF)
_PICTURE_LIMITED = Answer(HTTPStatus.OK, _IMAGE | _LIMITED, _GIF)
_NOT_FOUND = Answer(HTTPStatus.NOT_FOUND, {"Content-Type": "text/plain"}, b"not found\n")
_READS = ("GET", "HEAD")
_NO_METHOD = Answer(HTTPStatus.METHOD_NOT_ALLOWED, {"Allow": "GET, HEAD"})
_NO_METHOD_EITHER = Answer(HTTPStatus.METHOD_NOT_ALLOWED, {"Allow": "GET, HEAD, POST"})
_PAGE_HEADERS: Final = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Vary": "Accept-Language",
}
_STATUS: Final = {
    Page.ASK: HTTPStatus.OK,
    Page.DONE: HTTPStatus.OK,
    Page.AWAY: HTTPStatus.SERVICE_UNAVAILABLE,
    Page.GONE: HTTPStatus.NOT_FOUND,
    Page.WRONG: HTTPStatus.BAD_REQUEST,
}


@dataclass(frozen=True, slots=True)
class Limits:
    """How often a link, and a client, is recorded per minute; 0: without limit."""

    per_token: RateLimit
    per_client: RateLimit


@dataclass(frozen=True, slots=True)
class Clients:
    """How clients are told apart: a header that our own proxy writes, and the hashes we keep."""

    hashes: ClientHashes
    trusted_header: str | None = None


class TrackingRoutes:
    """Answers /o/, /c/ and /u/. `clock` says at what times."""

    def __init__(
        self,
        keyring: Keyring,
        events: Recorder,
        unsubscribes: Recorder,
        destinations: Destinations,
        limits: Limits,
        clients: Clients,
        listener: Listener,
    ) -> None:
        self.clock = Clock()
        self._keyring = keyring
        self._events = events
        self._unsubscribes = unsubscribes
        self._destinations = destinations
        self._limits = limits
        self._clients = clients
        self._listener = listener
        self._pages = Pages.load()
        self._answers = {
            (page, language): self._page_answer(page, language)
            for page in Page
            for language in self._pages.languages
        }

    @property
    def table(self) -> Mapping[str, Handler]:
        """The handlers by the first part of the path."""
        return {"o": self._open, "c": self._click, "u": self._unsubscribe}

    def quick(self, asked: Asked, target: str) -> Answered | None:
        """Answer a plain GET of a picture or of a link whose destination is known."""
        path = target.partition("?")[0]
        if path.startswith("/o/"):
            return self._opened(asked, path[3:])
        if path.startswith("/c/"):
            token = self._token(TokenKind.CLICK, path[3:])
            if token is None:
                return self._page_for(asked.headers, Page.GONE), None
            if token.link_id is None:
                return self._clicked(asked, path[3:], token, token.destination or "")
            known = self._destinations.known(token.link_id)
            return None if known is None else self._clicked(asked, path[3:], token, known)
        return None

    async def _open(self, request: web.BaseRequest, rest: str) -> web.StreamResponse:
        if request.method not in _READS:
            return _NO_METHOD.to(request)
        answer, recorded = self._opened(_asked(request), rest)
        return answer.to(request, None if recorded is None else await asyncio.shield(recorded))

    def _opened(self, asked: Asked, rest: str) -> tuple[Answer, asyncio.Future[Secured] | None]:
        token = self._token(TokenKind.OPEN, rest[:-4]) if rest.endswith(".gif") else None
        if token is None:
            return _NOT_FOUND, None
        recorded = self._recorded(asked, EventKind.OPEN, token, rest)
        return _PICTURE_LIMITED if recorded is None else _PICTURE, recorded

    async def _click(self, request: web.BaseRequest, rest: str) -> web.StreamResponse:
        if request.method not in _READS:
            return _NO_METHOD.to(request)
        token = self._token(TokenKind.CLICK, rest)
        if token is None:
            return self._page(request, Page.GONE)
        until = asyncio.get_running_loop().time() + ALL_SECONDS
        try:
            url = await self._destination(token)
        except DatabaseAway:
            self._refused(EventKind.CLICK, "destination_away")
            return self._page(request, Page.AWAY)
        if url is None:
            self._refused(EventKind.CLICK, "unknown_link")
            return self._page(request, Page.GONE)
        answer, recorded = self._clicked(_asked(request), rest, token, url)
        return answer.to(request, None if recorded is None else await _by(until, recorded))

    def _clicked(
        self, asked: Asked, rest: str, token: Token, url: str
    ) -> tuple[Answer, asyncio.Future[Secured] | None]:
        recorded = self._recorded(asked, EventKind.CLICK, token, rest)
        return _leads_to(url, limited=recorded is None), recorded

    async def _destination(self, token: Token) -> str | None:
        if token.link_id is None:
            return token.destination
        known = self._destinations.known(token.link_id)
        return known if known is not None else await self._destinations.find(token.link_id)

    async def _unsubscribe(self, request: web.BaseRequest, rest: str) -> web.StreamResponse:
        if request.method not in (*_READS, "POST"):
            return _NO_METHOD_EITHER.to(request)
        token = self._token(TokenKind.UNSUBSCRIBE, rest)
        if token is None:
            return self._page(request, Page.GONE)
        if request.method != "POST":
            return self._page(request, Page.ASK)
        if not await _asks_to_unsubscribe(request):
            self._refused(EventKind.UNSUBSCRIBE, "malformed")
            return self._page(request, Page.WRONG)
        recorded = self._recorded(_asked(request), EventKind.UNSUBSCRIBE, token, rest)
        # Too many of them: whether this one is kept, nobody can promise.
        if recorded is None or await asyncio.shield(recorded) is Secured.UNSECURED:
            return self._page(request, Page.AWAY)
        return self._page(request, Page.DONE)

    def _token(self, kind: TokenKind, text: str) -> Token | None:
        try:
            return self._keyring.read(kind, text)
        except InvalidToken:
            self._listener.on_event(TrackingRefused(kind.name.lower(), "invalid_token"))
            return None

    def _recorded(
        self, asked: Asked, kind: EventKind, token: Token, text: str
    ) -> asyncio.Future[Secured] | None:
        """Record a request; None when there were too many like it."""
        headers = asked.headers
        address = client_address(asked.peer, headers, self._clients.trusted_header)
        verdict = classify(Hit(kind, asked.method, headers, address))
        # A proxy asks for millions of readers from a few addresses, as does a provider that posts
        # their unsubscribes; and no crowd of readers behind one address keeps anybody from leaving.
        alone = verdict.visitor is not Visitor.PRIVACY_PROXY and kind is not EventKind.UNSUBSCRIBE
        if not self._limits.per_token.allows(text) or (
            address and alone and not self._limits.per_client.allows(limited_as(address))
        ):
            self._refused(kind, "limited")
            return None
        event = TrackingEvent(
            id=new_event_id(),
            message_id=token.message_id,
            link_id=token.link_id,
            target=target_of(token.destination),
            kind=kind,
            head=asked.method == "HEAD",
            visitor=verdict.visitor,
            machine=verdict.machine,
            client_hash=self._clients.hashes.of(address),
            user_agent=cleaned_agent(headers.get("user-agent")),
            occurred_at=self.clock.now(),
        )
        recorder = self._unsubscribes if kind is EventKind.UNSUBSCRIBE else self._events
        return recorder.record(event)

    def _refused(self, kind: EventKind, reason: str) -> None:
        self._listener.on_event(TrackingRefused(kind.value, reason))

    def _page(self, request: web.BaseRequest, page: Page) -> web.StreamResponse:
        return self._page_for(request.headers, page).to(request)

    def _page_for(self, headers: Mapping[str, str], page: Page) -> Answer:
        return self._answers[page, self._pages.language(headers.get("accept-language"))]

    def _page_answer(self, page: Page, language: str) -> Answer:
        headers = {**_PAGE_HEADERS, "Content-Language": language}
        if page is Page.AWAY:
            headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
        return Answer(_STATUS[page], headers, self._pages.page(page, language))


@functools.lru_cache(maxsize=_DESTINATIONS_KEPT)
def _leads_to(url: str, *, limited: bool) -> Answer:
    location = {"Location": url}
    return Answer(HTTPStatus.FOUND, location | _LIMITED if limited else location)


def _asked(request: web.BaseRequest) -> Asked:
    return Asked(request.method, request.headers, request.remote)


async def _by(until: float, recorded: asyncio.Future[Secured]) -> Secured:
    """Say where an event is; of whoever waited for a destination, it takes what is left."""
    left_seconds = max(0.0, until - asyncio.get_running_loop().time())
    await asyncio.wait({recorded}, timeout=left_seconds)
    return recorded.result() if recorded.done() else Secured.UNSECURED


async def _asks_to_unsubscribe(request: web.BaseRequest) -> bool:
    """Whether the body is that of RFC 8058, 3.1, form-encoded or multipart, as the page's is."""
    try:
        async with asyncio.timeout(FORM_SECONDS):
            form = await request.clone(client_max_size=MAX_FORM_BYTES).post()
    except Exception:  # noqa: BLE001 - the parser has many words for a body that it cannot read
        return False
    name, value = ONE_CLICK
    said = form.get(name)
    return isinstance(said, str) and said.strip().lower() == value.lower()
