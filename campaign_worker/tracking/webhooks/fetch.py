"""Asks a provider's server over HTTPS for something small, bounded in time and size."""

from __future__ import annotations

import ssl
from typing import Final, Protocol

import aiohttp
from aiohttp.abc import AbstractResolver

from campaign_worker.errors import HttpRefused, ProviderAway

MAX_BYTES: Final = 65_536
TIMEOUT_SECONDS: Final = 5.0
_OK: Final = 200
_SERVER_ERROR: Final = 500
_TOO_MANY: Final = 429


class Fetcher(Protocol):
    """Who asks. Whoever calls it has checked the URL."""

    async def fetch(self, url: str) -> bytes:
        """GET a URL. Raises errors.HttpRefused for a refusal, errors.ProviderAway for no answer."""
        ...


class HttpsFetcher:
    """Fulfils Fetcher; a connection for each request, for there is about one a day.

    `ssl_context` None: the system's authorities; `resolver` None: the system's.
    """

    def __init__(
        self,
        *,
        ssl_context: ssl.SSLContext | None = None,
        resolver: AbstractResolver | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self._ssl_context = ssl_context
        self._resolver = resolver
        self._timeout_seconds = timeout_seconds

    async def fetch(self, url: str) -> bytes:
        """GET a URL; at most `timeout_seconds`, at most 64 kB."""
        connector = aiohttp.TCPConnector(
            ssl=True if self._ssl_context is None else self._ssl_context,
            resolver=self._resolver,
            force_close=True,
        )
        timeout = aiohttp.ClientTimeout(total=self._timeout_seconds)
        try:
            async with (
                aiohttp.ClientSession(
                    connector=connector,
                    timeout=timeout,
                    cookie_jar=aiohttp.DummyCookieJar(),
                    headers={"Accept-Encoding": "identity"},
                    auto_decompress=False,
                ) as session,
                session.get(url, allow_redirects=False) as response,
            ):
                return await _body(response)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise ProviderAway(f"no answer: {type(error).__name__}") from error


async def _body(response: aiohttp.ClientResponse) -> bytes:
    if response.status >= _SERVER_ERROR or response.status == _TOO_MANY:
        raise ProviderAway(f"it answers {response.status}")
    if response.status != _OK:
        raise HttpRefused(response.status, "", "")
    body = b""
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_BYTES:
            raise HttpRefused(response.status, "", f"more than {MAX_BYTES} bytes")
    return body
