"""An app of each BullMQ version, our worker beside it, and the servers that both use."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import asyncpg
import pytest

from campaign_worker.embedded.smtp_server import SmtpSink
from tests.conformance.feature_list import FEATURES
from tests.conformance.features import MAJORS
from tests.conformance.harness import App, NodeWorker, OurWorker, Post, environment_of
from tests.conformance.table import PAGE, PROVES, TableWriter
from tests.fixtures.node import NodeBullMQ, connection_of

StartWorker = Callable[..., AbstractAsyncContextManager[OurWorker]]
StartNodeWorker = Callable[..., AbstractAsyncContextManager[NodeWorker]]

OPTION = "--write-conformance"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(OPTION, action="store_true", help="write the table in docs/conformance.md")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "feature(name): a case of a feature of feature_list.py")
    collects = not hasattr(config, "workerinput")
    if collects and config.getoption(OPTION, default=False):
        config.pluginmanager.register(TableWriter(FEATURES, PAGE, config), "conformance-table")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption(OPTION, default=False):
        # What reads the page is for the time when it has been written.
        items[:] = [item for item in items if item.path.name != "test_table.py"]
    for item in items:
        marker = item.get_closest_marker("feature")
        if marker is None or not isinstance(item, pytest.Function):
            continue
        (name,) = marker.args
        if name not in FEATURES:
            raise pytest.UsageError(f"{item.nodeid}: no feature {name!r} in feature_list.py")
        params = item.callspec.params if hasattr(item, "callspec") else {}
        major = params.get("bullmq", MAJORS[-1])
        item.user_properties.append((PROVES, [name, major, item.function.__name__]))


@pytest.fixture
async def app(bullmq: NodeBullMQ, redis_url: str, prefix: str) -> AsyncIterator[App]:
    """Return an app of each major version."""
    async with App.started(bullmq, redis_url, prefix) as started:
        yield started


@pytest.fixture
async def app6(
    node_bullmq: Callable[[int], NodeBullMQ], redis_url: str, prefix: str
) -> AsyncIterator[App]:
    """Return an app of 6.x, where the version makes no difference."""
    async with App.started(node_bullmq(6), redis_url, prefix) as started:
        yield started


@pytest.fixture
async def post(database_url: str) -> AsyncIterator[Post]:
    connection = await asyncpg.connect(database_url)
    yield Post(connection)
    await connection.close()


@pytest.fixture
def our_worker(redis_url: str, database_url: str, smtp_sink: SmtpSink, prefix: str) -> StartWorker:
    """Return `our_worker(SETTING=value)`, to be used with `async with`; any number of them."""

    def start(**settings: str) -> AbstractAsyncContextManager[OurWorker]:
        common = environment_of(redis_url, database_url, smtp_sink.url, prefix)
        return OurWorker.started(common | settings)

    return start


@pytest.fixture
def node_worker(
    node_bullmq: Callable[[int], NodeBullMQ], redis_url: str, prefix: str
) -> StartNodeWorker:
    """Return `node_worker(*queues, **options)`: Workers of `major`, to be used with `async with`.

    `each` has options by queue; `pause_ms` passes within each job.
    """

    def start(
        *queues: str,
        major: int = 6,
        pause_ms: int = 0,
        each: dict[str, Any] | None = None,
        **options: Any,
    ) -> AbstractAsyncContextManager[NodeWorker]:
        return NodeWorker.started(
            node_bullmq(major),
            connection=connection_of(redis_url),
            prefix=prefix,
            queues=queues,
            pauseMs=pause_ms,
            options=options,
            each=each or {},
        )

    return start
