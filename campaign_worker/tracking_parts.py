"""Builds what tracking consists of and joins it, for `run` and for `track`. Decides nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import redis.asyncio as aioredis
import structlog
from redis.exceptions import ResponseError

from campaign_worker.errors import RedisAway
from campaign_worker.mail.compose import normalize
from campaign_worker.settings import ClientHash, TrackerSettings, WebhookSettings
from campaign_worker.storage.database import Database
from campaign_worker.storage.feedback import PostgresFeedback
from campaign_worker.storage.tracking import (
    PostgresArchive,
    PostgresClock,
    PostgresEvents,
    PostgresLinks,
    PostgresUnsubscribes,
)
from campaign_worker.storage.tracking_stream import (
    RedisLinks,
    RedisStream,
    events_key,
    links_key,
    unsubscribes_key,
)
from campaign_worker.tracking.classify import TIMING
from campaign_worker.tracking.clients import ClientHashes
from campaign_worker.tracking.clock import ClockKeeper
from campaign_worker.tracking.destinations import Destinations
from campaign_worker.tracking.drain import Drainer, StreamDrain
from campaign_worker.tracking.limits import RateLimit
from campaign_worker.tracking.recorder import Recorder
from campaign_worker.tracking.retention import Retention
from campaign_worker.tracking.routes import Clients, Limits, TrackingRoutes
from campaign_worker.tracking.tokens import Keyring
from campaign_worker.tracking.webhooks import webhook_table
from campaign_worker.web import Handler
from metrics import Listener
from shutdown import Deadline, StartStop

log = structlog.get_logger(__name__)

_LINKS_SECONDS = 2.0
"""What a start waits for links; without Postgres their copies in Redis have to do."""

_EVENTS = "events"
_UNSUBSCRIBES = "unsubscribes"


class TrackingParts:
    """The parts of tracking in one process, each made once."""

    def __init__(
        self,
        settings: TrackerSettings,
        database: Database,
        redis: aioredis.Redis,
        listener: Listener,
    ) -> None:
        prefix = settings.bullmq_prefix
        opens = PostgresEvents(database, TIMING)
        leavers = PostgresUnsubscribes(database, normalize=normalize)
        open_stream = RedisStream(redis, events_key(prefix))
        leaver_stream = RedisStream(redis, unsubscribes_key(prefix))
        self.events = Recorder(_EVENTS, opens, open_stream, listener)
        self.unsubscribes = Recorder(_UNSUBSCRIBES, leavers, leaver_stream, listener)
        self._leaver_drain = StreamDrain(_UNSUBSCRIBES, leaver_stream, leavers, listener)
        open_drain = StreamDrain(_EVENTS, open_stream, opens, listener)
        self._destinations = Destinations(
            PostgresLinks(database),
            RedisLinks(redis, links_key(prefix)),
            lambda: self.events.store_away,
        )
        self.routes = TrackingRoutes(
            Keyring(settings.tracking_signing_keys),
            self.events,
            self.unsubscribes,
            self._destinations,
            Limits(
                RateLimit(settings.tracking_limit_per_link),
                RateLimit(settings.tracking_limit_per_client),
            ),
            Clients(
                ClientHashes(enabled=settings.tracking_client_hash is ClientHash.DAILY),
                (settings.client_ip_header or "").lower() or None,
            ),
            listener,
        )
        self.services: Sequence[StartStop] = (
            ClockKeeper(self.routes.clock, PostgresClock(database)),
            self._destinations,
            Drainer(self._leaver_drain),
            Drainer(open_drain),
            Retention(PostgresArchive(database), settings.tracking_retention_days),
        )

    @property
    def held(self) -> tuple[str, ...]:
        """What is away for tracking now."""
        away = self.events.store_away or self.unsubscribes.store_away
        return ("tracking: postgres",) if away else ()

    async def drain_unsubscribes(self) -> None:
        """Give Postgres the unsubscribes that wait in Redis: before claims.

        Raises DatabaseAway, and RedisAway while nobody can tell what waits: no job comes either.
        """
        try:
            await self._leaver_drain.run()
        except RedisAway as error:
            # One that answers, and refuses, would hold intake for ever.
            if not isinstance(error.__cause__, ResponseError):
                raise
            log.warning("tracking", problem="unsubscribes were not drained", error=str(error))

    async def start(self) -> None:
        """Start what runs in the background, and read the links, so that readers are led on."""
        for service in self.services:
            await service.start()
        if not await self._destinations.complete(_LINKS_SECONDS):
            log.warning("tracking", problem="links were not read yet: their copies in Redis serve")

    async def close(self, deadline: Deadline) -> None:
        """Secure what is in memory; after the last request, before the stores are closed."""
        await self.unsubscribes.close(deadline)
        await self.events.close(deadline)


def webhook_handlers(
    settings: WebhookSettings, database: Database, listener: Listener
) -> Mapping[str, Handler]:
    """Give the handlers of what providers report; none where no secret is set."""
    store = PostgresFeedback(database, normalize=normalize, listener=listener)
    return webhook_table(settings, store, listener)
