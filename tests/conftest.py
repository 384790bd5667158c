"""Fixtures of every test: where they live, and which leak checks every test passes."""

from __future__ import annotations

import inspect
import os
import signal

import pytest

pytest_plugins = [
    "tests.fixtures.leaks",
    "tests.fixtures.redis",
    "tests.fixtures.postgres",
    "tests.fixtures.pgbouncer",
    "tests.fixtures.smtp",
    "tests.fixtures.resend",
    "tests.fixtures.node",
    "tests.fixtures.webhooks",
]


WORKERS_PER_CORE = 2
"""Tests wait for servers, locks and leases more than they compute."""


def pytest_configure() -> None:
    """Undo what a shell does to its background: whatever a test starts would inherit it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_auto_num_workers() -> int:
    """Say how many processes `-n auto` is; `-n 0` runs all tests in one, for a debugger."""
    return WORKERS_PER_CORE * (os.cpu_count() or 1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # An autouse async fixture would run a loop for sync tests too; they have no tasks to leak.
    for item in items:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.function):
            item.fixturenames.insert(0, "no_task_left")
