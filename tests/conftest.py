"""Fixtures of every test: where they live, and which leak checks every test passes."""

from __future__ import annotations

import inspect

import pytest

pytest_plugins = [
    "tests.fixtures.leaks",
    "tests.fixtures.redis",
    "tests.fixtures.postgres",
    "tests.fixtures.pgbouncer",
    "tests.fixtures.smtp",
    "tests.fixtures.resend",
    "tests.fixtures.node",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # An autouse async fixture would run a loop for sync tests too; they have no tasks to leak.
    for item in items:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.function):
            item.fixturenames.insert(0, "no_task_left")
