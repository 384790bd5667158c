"""A test that leaves something behind fails: tried with a session of pytest inside the session."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

HEAD = """
import asyncio, subprocess, sys
import asyncpg, redis.asyncio
"""

TASK = """
kept = []
async def test_it():
    kept.append(asyncio.create_task(asyncio.Event().wait()))
    await asyncio.sleep(0)
"""
PROCESS = """
kept = []
def test_it():
    kept.append(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))
"""
REDIS = """
kept = []
async def test_it(redis_url):
    kept.append(redis.asyncio.Redis.from_url(redis_url))
    await kept[0].ping()
"""
KEY = """
async def test_it(redis_client, prefix):
    await redis_client.set("bull:campaign:id", 1)
"""
DATABASE = """
kept = []
async def test_it(empty_database_url):
    kept.append(await asyncpg.connect(empty_database_url))
"""
CLEAN = """
async def test_it(redis_client, prefix, empty_database_url, smtp_sink):
    await redis_client.set(f"{prefix}:id", 1)
    task = asyncio.create_task(asyncio.sleep(0))
    await task
"""


def run(folder: Path, source: str) -> subprocess.CompletedProcess[str]:
    # Below tests/ of this tree the conftest applies only through its plugins.
    (folder / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    (folder / "test_inner.py").write_text(HEAD + source)
    options = ["-q", "-p", "no:cacheprovider", f"--rootdir={folder}", "--import-mode=importlib"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, "-c", str(ROOT / "pyproject.toml"), str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (TASK, "tasks left behind"),
        (PROCESS, "processes left behind"),
        (REDIS, "all Redis connections closed"),
        (KEY, "keys outside of the prefix"),
        (DATABASE, "all Postgres connections closed"),
    ],
    ids=["task", "process", "redis", "key", "database"],
)
def test_what_is_left_behind_fails_the_test(tmp_path: Path, source: str, said: str) -> None:
    done = run(tmp_path, source)
    assert done.returncode == 1, done.stdout + done.stderr
    assert said in done.stdout


def test_a_clean_test_passes(tmp_path: Path) -> None:
    done = run(tmp_path, CLEAN)
    assert done.returncode == 0, done.stdout + done.stderr
