"""POST /webhooks/{provider}: reads a bounded body, has it proved, and answers after the commit.

A provider whose secret is not set is not there. Whatever cannot be taken now is answered with 503:
providers deliver again, for hours at least.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import structlog
from aiohttp import hdrs, web

from campaign_worker.errors import (
    DatabaseAway,
    ProviderAway,
    RowRefused,
    WebhookForged,
    WebhookMalformed,
)
from campaign_worker.settings import WebhookSettings
from campaign_worker.tracking.webhooks.feedback import (
    Feedback,
    FeedbackStore,
    Ignored,
    Provider,
    Recorded,
    Source,
)
from campaign_worker.tracking.webhooks.fetch import Fetcher, HttpsFetcher
from campaign_worker.tracking.webhooks.postmark import PostmarkSource
from campaign_worker.tracking.webhooks.resend import ResendSource
from metrics import Listener, WebhookReceived

log = structlog.get_logger(__name__)

MAX_BODY: Final = 1024 * 1024
"""SNS' messages have 256 kB before JSON escapes them, twice; others are far smaller."""

READ_SECONDS: Final = 10.0
PROVE_SECONDS: Final = 10.0
STORE_SECONDS: Final = 10.0
"""SNS waits 15 s for an answer, Svix as long."""

RETRY_AFTER_SECONDS: Final = 30
_HEADERS: Final = {
    # RFC 9110, 11.6.1; a client may send the user and password of its URL only when it is asked.
    401: {"WWW-Authenticate": 'Basic realm="webhooks"'},
    405: {"Allow": "POST"},
    503: {"Retry-After": str(RETRY_AFTER_SECONDS)},
}
_LOG_EVERY_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class _Answer:
    """An HTTP answer, and what it is counted as."""

    status: int
    result: str


class Webhooks:
    """Answers for the providers in `sources`."""

    def __init__(
        self, sources: Mapping[Provider, Source], store: FeedbackStore, listener: Listener
    ) -> None:
        self._sources = sources
        self._store = store
        self._listener = listener
        self._logged_at = -_LOG_EVERY_SECONDS

    async def handle(self, request: web.BaseRequest, name: str) -> web.Response:
        """Answer one webhook of the provider of that name."""
        source, provider = self._source_of(name)
        if source is None:
            answer = _Answer(404, "unknown")
        elif request.method != hdrs.METH_POST:
            answer = _Answer(405, "no_post")
        else:
            answer = await self._answer(source, request, provider)
        self._listener.on_event(WebhookReceived(provider, answer.result))
        headers = {"Cache-Control": "no-store"}
        headers |= _HEADERS.get(answer.status, {})
        return web.json_response({"result": answer.result}, status=answer.status, headers=headers)

    def _source_of(self, name: str) -> tuple[Source | None, str]:
        try:
            provider = Provider(name)
        except ValueError:
            # A label from a closed set, whatever anybody asks for.
            return None, "unknown"
        return self._sources.get(provider), provider.value

    async def _answer(self, source: Source, request: web.BaseRequest, provider: str) -> _Answer:
        try:
            body = await _read(request)
            if body is None:
                return _Answer(413, "too_large")
            async with asyncio.timeout(PROVE_SECONDS):
                told = await source.read(request.headers, body)
            return await self._taken(told)
        except WebhookForged as error:
            self._log("webhook refused", provider, error)
            return _Answer(401, "forged")
        except (WebhookMalformed, web.RequestPayloadError) as error:
            self._log("webhook not understood", provider, error)
            return _Answer(400, "malformed")
        except RowRefused as error:
            self._log("webhook not taken by Postgres", provider, error)
            return _Answer(422, "refused")
        except (DatabaseAway, ProviderAway, TimeoutError) as error:
            self._log("webhook put off", provider, error)
            return _Answer(503, "away")

    async def _taken(self, told: Sequence[Feedback]) -> _Answer:
        recorded = []
        for feedback in told:
            if not isinstance(feedback, Ignored):
                # What is cut off here may still commit; delivered again, it is known.
                async with asyncio.timeout(STORE_SECONDS):
                    recorded.append(await self._store.record(feedback))
        if not recorded:
            return _Answer(200, "ignored")
        new = Recorded.APPLIED in recorded
        return _Answer(200, (Recorded.APPLIED if new else Recorded.KNOWN).value)

    def _log(self, event: str, provider: str, error: Exception) -> None:
        # Counted each time; said now and then, so that nobody can fill the log.
        now = time.monotonic()
        if now - self._logged_at >= _LOG_EVERY_SECONDS:
            self._logged_at = now
            log.warning(event, provider=provider, problem=str(error) or type(error).__name__)


Handler = Callable[[web.BaseRequest, str], Awaitable[web.StreamResponse]]
"""Answers a request whose path goes on with this text; the text has no query."""


def webhook_table(
    settings: WebhookSettings,
    store: FeedbackStore,
    listener: Listener,
    *,
    fetcher: Fetcher | None = None,
    now: Callable[[], float] = time.time,
) -> dict[str, Handler]:
    """Build the handler of /webhooks/..., by the first part of its path.

    It knows the providers whose secrets are set; where none is, there is no handler.
    """
    sources = _sources(settings, fetcher or HttpsFetcher(), now)
    return {"webhooks": Webhooks(sources, store, listener).handle} if sources else {}


def _sources(
    settings: WebhookSettings, fetcher: Fetcher, now: Callable[[], float]
) -> dict[Provider, Source]:
    sources: dict[Provider, Source] = {}
    if settings.resend_webhook_secret:
        sources[Provider.RESEND] = ResendSource(settings.resend_webhook_secret, now=now)
    if settings.ses_webhook_topics:
        # The cryptography library takes 10 MB and a blink: only where something is to be proved.
        from campaign_worker.tracking.webhooks.ses_source import SesSource  # noqa: PLC0415

        sources[Provider.SES] = SesSource(settings.ses_webhook_topics, fetcher)
    if settings.postmark_webhook_secret is not None:
        sources[Provider.POSTMARK] = PostmarkSource(settings.postmark_webhook_secret)
    return sources


async def _read(request: web.BaseRequest) -> bytes | None:
    """Read the body, whatever the server's own bound is; None when it is too large."""
    if (request.content_length or 0) > MAX_BODY:
        return None
    body = bytearray()
    async with asyncio.timeout(READ_SECONDS):
        async for chunk in request.content.iter_any():
            body += chunk
            if len(body) > MAX_BODY:
                return None
    return bytes(body)
