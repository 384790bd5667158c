"""The stage of a demo: servers up and migrated, a campaign in Postgres, its jobs in Redis."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shlex
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import asyncpg
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource
from redis.exceptions import RedisError

from campaign_worker import operations
from campaign_worker.demo.options import Pace
from campaign_worker.demo.progress import Display
from campaign_worker.demo.readers import BASE
from campaign_worker.embedded.postgres_binary import find_postgres
from campaign_worker.embedded.redis_binary import find_redis
from campaign_worker.embedded.stack import EmbeddedStack
from campaign_worker.errors import DemoFailed
from campaign_worker.settings import Settings

STEP_SECONDS = 30.0
_TO_LOOK_AROUND = (
    *("REDIS_URL", "DATABASE_URL", "SMTP_URL", "MAIL_FROM"),
    *("TRACKING_BASE_URL", "TRACKING_SIGNING_KEYS"),
)
CLOSE_SECONDS = 2.0


class DemoSettings(Settings):
    """Settings that nothing can be slipped into: neither the environment nor .env is read."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic's signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take arguments only."""
        return (init_settings,)


@contextlib.asynccontextmanager
async def servers(pace: Pace, display: Display) -> AsyncIterator[EmbeddedStack]:
    """Redis, Postgres and the SMTP server; says what it starts and from where.

    Raises BinaryMissing or EmbeddedServerError.
    """
    display.say(f"Redis, with append-only file, from {find_redis()}")
    display.say(f"Postgres from {find_postgres()}")
    display.say(f"SMTP server that keeps what it accepts and takes {pace.latency_ms:g} ms a mail")
    async with EmbeddedStack(latency_ms=pace.latency_ms, keep_contents=True) as stack:
        for url in (stack.redis_url, stack.database_url, stack.smtp_url):
            display.say(f"  {url}")
        yield stack


@contextlib.asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """One connection to Postgres."""
    connection = await asyncpg.connect(dsn, timeout=STEP_SECONDS, command_timeout=STEP_SECONDS)
    try:
        yield connection
    finally:
        try:
            await connection.close(timeout=CLOSE_SECONDS)
        except (TimeoutError, OSError, asyncpg.PostgresError):
            connection.terminate()


@contextlib.contextmanager
def step(name: str) -> Iterator[None]:
    """Turn what drivers raise into DemoFailed, which says where it happened."""
    try:
        yield
    except TimeoutError as error:
        raise DemoFailed(name, "a server did not answer in time") from error
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, RedisError) as error:
        raise DemoFailed(name, f"{type(error).__name__}: {error}") from error


def settings_of(stack: EmbeddedStack, pace: Pace) -> Mapping[str, str]:
    """Return the variables of workers and trackers on this stage; its signing key is a new one."""
    return {
        "REDIS_URL": stack.redis_url,
        "DATABASE_URL": stack.database_url,
        "SMTP_URL": stack.smtp_url,
        "MAIL_FROM": "Demo <news@demo.example>",
        "EHLO_NAME": "worker.demo.example",
        "CONCURRENCY": str(pace.concurrency),
        "DRAIN_SECONDS": "30",
        "RECONCILE_INTERVAL_SECONDS": "5",
        "RECONCILE_OVERDUE_SECONDS": "5",
        # A minute, the default, is as long as a demo may last.
        "RETRY_4XX_FLOOR_SECONDS": "1",
        "TRACKING_BASE_URL": BASE,
        "TRACKING_SIGNING_KEYS": f"demo:{secrets.token_hex(32)}",
        # All readers live at one address.
        "TRACKING_LIMIT_PER_CLIENT": "0",
        "LOG_FORMAT": "json",
    }


def how_to_use(variables: Mapping[str, str], store: Path) -> Iterator[str]:
    """Yield what a person needs who wants to look around, line by line."""
    yield "The servers stay up; Ctrl-C stops them and removes their data. In another shell:"
    for name in _TO_LOOK_AROUND:
        yield f"  export {name}={shlex.quote(variables[name])}"
    yield "  campaign-worker status"
    yield f"For the links of the mails, in the place of {BASE}: PORT=8081 campaign-worker track"
    yield f"Accepted mails, one JSON object a line: {store}"


async def enqueue(variables: Mapping[str, str], campaign_id: int, display: Display) -> int:
    """Add the jobs, as `campaign-worker enqueue` does; how many there were."""
    settings = DemoSettings.load(env_file=None, **variables)
    loop = asyncio.get_running_loop()
    with step("enqueue"):
        async with asyncio.timeout(STEP_SECONDS) as limit:

            def progress(_done: int, _total: int) -> None:
                limit.reschedule(loop.time() + STEP_SECONDS)

            count = await operations.enqueue(settings, str(campaign_id), progress)
    display.say(f"campaign {campaign_id}: {count} jobs enqueued through BullMQ")
    return count
