"""Resend's HTTP API as a transport of delivery: one session, a bounded number of requests.

The mark is committed when a connection stands and before any byte of a body is written. A request
that a broken connection took with it is repeated once at once: the key makes that harmless.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import NoReturn

import aiohttp

from campaign_worker import __version__
from campaign_worker.delivery.classify import Throttled, TransportRefuses
from campaign_worker.delivery.classify_http import classify_http
from campaign_worker.delivery.model import Accepted, Composed, Envelope
from campaign_worker.errors import HttpLost, HttpRefused, SmtpPhase, TransportDown
from campaign_worker.mail.reply import clean
from campaign_worker.mail.resend_answer import MAX_ANSWER_BYTES, accepted, refused
from campaign_worker.mail.resend_request import ResendRequest
from campaign_worker.mail.resend_url import ResendEndpoint
from shutdown import Deadline

BeforeWrite = Callable[[], Awaitable[None]]

KEY_LIFE_SECONDS = 86_400.0
"""How long Resend remembers a key (https://resend.com/docs/dashboard/emails/idempotency-keys)."""

_MARGIN_SECONDS = 300.0
"""Clocks run unevenly, and a request may wait at the provider's door."""

_BROKEN = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, aiohttp.ClientPayloadError)
_UNSEEN = (Throttled, TransportRefuses)
"""Verdicts on who asks and how often: they tell nothing of a request that came before."""

_RESTRICTED = "restricted_api_key"
_TOO_MANY_REQUESTS = 429


@dataclass(frozen=True, slots=True)
class ResendReport:
    """What the API said of itself; `restricted`: the key may send, and nothing else."""

    endpoint: str
    tls: bool
    restricted: bool


class ResendSession:
    """A place among the requests, held for one mail. Fulfils delivery.ports.Session."""

    def __init__(self, transport: ResendTransport) -> None:
        self._transport = transport

    async def send(self, _envelope: Envelope, content: bytes, before_dot: BeforeWrite) -> Accepted:
        """Send what `prepare` gave; `before_dot` is awaited before the body is written.

        From the mark on it takes at most `send_timeout_seconds`. Raises errors.HttpRefused;
        errors.HttpLost, the outcome of which is unknown; errors.TransportDown with nothing
        written. What `before_dot` raises comes through.
        """
        request = ResendRequest.read(content)
        exchange = _Exchange(self._transport, request, before_dot)
        try:
            return await exchange.run()
        except _BROKEN:
            # A connection that had gone stale, or a reply that was lost.
            again = _Exchange(self._transport, request, before_dot)
        try:
            return await again.run()
        except HttpRefused as error:
            if exchange.written and isinstance(classify_http(error), _UNSEEN):
                raise HttpLost(str(error)) from error
            raise
        except (TransportDown, *_BROKEN) as error:
            if exchange.written or again.written:
                raise HttpLost(clean(str(error) or type(error).__name__)) from error
            self._transport.down(error)


class ResendTransport:
    """Resend's API with a bounded number of requests at once. Fulfils delivery.ports.Transport."""

    def __init__(
        self,
        endpoint: ResendEndpoint,
        *,
        name: str,
        max_connections: int,
        send_timeout_seconds: float,
        idle_timeout_seconds: float = 15.0,
        connect_timeout_seconds: float = 10.0,
    ) -> None:
        self.endpoint = endpoint
        self.send_timeout_seconds = send_timeout_seconds
        self.connect_timeout_seconds = connect_timeout_seconds
        self._name = name
        self._max_connections = max_connections
        self._idle_timeout_seconds = idle_timeout_seconds
        self._places = asyncio.Semaphore(max_connections)
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"ResendTransport({self._name}, {self.endpoint})"

    @property
    def name(self) -> str:
        """The name that campaigns choose it by."""
        return self._name

    @property
    def replay_seconds(self) -> float:
        """How long a request may be repeated after its first mark."""
        return KEY_LIFE_SECONDS - _MARGIN_SECONDS - self.send_timeout_seconds

    def prepare(self, mail: Composed, key: str) -> bytes:
        """Write the request of a mail. Raises errors.PayloadError and AddressError."""
        return ResendRequest.of(mail, key).content

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[ResendSession]:
        """Wait (FIFO) for a place. Raises errors.TransportDown when the transport is closed."""
        async with self._places:
            self.client()
            yield ResendSession(self)

    async def probe(self) -> ResendReport:
        """Ask for the domains, which changes nothing. Raises errors.TransportDown."""
        try:
            async with (
                asyncio.timeout(self.connect_timeout_seconds + self.send_timeout_seconds),
                self.client().get("/domains", allow_redirects=False) as response,
            ):
                body = await read(response)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            self.down(error)
        tls = self.endpoint.base_url.startswith("https:")
        if response.ok or response.status == _TOO_MANY_REQUESTS:
            return ResendReport(str(self.endpoint), tls, restricted=False)
        answer = refused(response.status, response.headers, body)
        if answer.name == _RESTRICTED:
            return ResendReport(str(self.endpoint), tls, restricted=True)
        phase = SmtpPhase.AUTH if answer.status in {400, 401, 403} else SmtpPhase.GREETING
        raise TransportDown(self._name, phase, str(answer), answer.status)

    async def close(self, deadline: Deadline) -> None:
        """Close all connections; what is in use is cut."""
        self._closed = True
        session, self._session = self._session, None
        if session is not None:
            try:
                await deadline.wait_for(session.close())
            except TimeoutError:
                return
            # The transports end in the next turn of the loop.
            await asyncio.sleep(0)

    def client(self) -> aiohttp.ClientSession:
        """Give the one session. Raises errors.TransportDown when the transport is closed."""
        if self._closed:
            raise TransportDown(self._name, SmtpPhase.CONNECT, "the transport is closed")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                self.endpoint.base_url,
                connector=aiohttp.TCPConnector(
                    limit=self._max_connections, keepalive_timeout=self._idle_timeout_seconds
                ),
                headers={
                    "Authorization": f"Bearer {self.endpoint.api_key}",
                    "User-Agent": f"campaign-worker/{__version__}",
                    # No compressed answer: nobody here bounds what would come out of it.
                    "Accept-Encoding": "identity",
                },
                timeout=aiohttp.ClientTimeout(sock_connect=self.connect_timeout_seconds),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
        return self._session

    def down(self, error: Exception) -> NoReturn:
        """Raise errors.TransportDown for a failure before anything was written."""
        if isinstance(error, TransportDown):
            raise error
        timed_out = isinstance(error, TimeoutError)
        problem = "no connection in time" if timed_out else clean(str(error))
        raise TransportDown(
            self._name, SmtpPhase.CONNECT, problem or type(error).__name__
        ) from error


class _Exchange:
    """One request and its answer; `written` once a byte of the body may have gone out."""

    def __init__(
        self, transport: ResendTransport, request: ResendRequest, before_write: BeforeWrite
    ) -> None:
        self._transport = transport
        self._request = request
        self._before_write = before_write
        self._failure: Exception | None = None
        self._limit = asyncio.timeout(2 * transport.connect_timeout_seconds)
        self.written = False

    async def run(self) -> Accepted:
        """Send and read. Raises what a session's `send` does, and `_BROKEN` for the caller."""
        try:
            async with self._limit, self._post() as response:
                return accepted(response.status, response.headers, await read(response))
        except (TimeoutError, aiohttp.ClientError, OSError, RuntimeError) as error:
            if self._failure is not None:
                raise self._failure from None
            if isinstance(error, RuntimeError):
                # aiohttp's word for a session that was closed meanwhile.
                self._transport.client()
                raise
            connecting = isinstance(error, aiohttp.ClientConnectorError)
            if isinstance(error, _BROKEN) and not connecting:
                raise
            if self.written:
                raise HttpLost(clean(str(error)) or "no answer in time") from error
            self._transport.down(error)

    def _post(self) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        return self._transport.client().post(
            "/emails",
            data=self._body(),
            headers={
                "Content-Type": "application/json",
                "Content-Length": str(len(self._request.body)),
                "Idempotency-Key": self._request.key,
            },
            allow_redirects=False,
        )

    async def _body(self) -> AsyncIterator[bytes]:
        # The connection stands. How long the mark may take is not a matter of the network.
        self._limit.reschedule(None)
        try:
            await self._before_write()
        except Exception as error:
            # aiohttp would tell it as a broken connection.
            self._failure = error
            raise
        self.written = True
        seconds = self._transport.send_timeout_seconds
        self._limit.reschedule(asyncio.get_running_loop().time() + seconds)
        yield self._request.body


async def read(response: aiohttp.ClientResponse) -> bytes:
    """Read an answer's body, as far as it may be long."""
    body = b""
    while len(body) < MAX_ANSWER_BYTES:
        chunk = await response.content.read(MAX_ANSWER_BYTES - len(body))
        if not chunk:
            break
        body += chunk
    return body
