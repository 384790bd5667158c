"""Real BullMQ in Node talks to the Redis of the tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fixtures.node import NodeBullMQ, NodeFailed, connection_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis.asyncio

ROOT = Path(__file__).parents[3]

ADD_ONE = """
const { Queue } = require("bullmq");
const input = JSON.parse(process.env.INPUT);
(async () => {
  const queue = new Queue("campaign", { connection: input.connection, prefix: input.prefix });
  const job = await queue.add("send-email", { campaignId: "c1" });
  console.log(JSON.stringify({ id: job.id, name: job.name }));
  console.log(JSON.stringify(await queue.getJobCounts("wait")));
  await queue.close();
})();
"""

ECHO = """
const lines = require("readline").createInterface({ input: process.stdin });
console.log(JSON.stringify("ready"));
lines.on("line", (line) => console.log(JSON.stringify({ got: JSON.parse(line) })));
"""


@pytest.mark.node
async def test_each_major_version_adds_a_job(
    bullmq: NodeBullMQ, redis_url: str, prefix: str, redis_client: redis.asyncio.Redis
) -> None:
    data = {"connection": connection_of(redis_url), "prefix": prefix}
    job, counts = await bullmq.run(ADD_ONE, data)
    assert bullmq.version.startswith(f"{bullmq.major}.")
    assert job == {"id": "1", "name": "send-email"}
    assert counts == {"wait": 1}
    assert await redis_client.hget(f"{prefix}:campaign:1", "name") == "send-email"


@pytest.mark.node
async def test_a_script_that_throws_fails_the_test(
    node_bullmq: Callable[[int], NodeBullMQ],
) -> None:
    with pytest.raises(NodeFailed, match="out of order"):
        await node_bullmq(5).run('throw new Error("out of order")')


@pytest.mark.node
async def test_a_script_can_be_talked_with_and_ended(
    node_bullmq: Callable[[int], NodeBullMQ],
) -> None:
    async with await node_bullmq(5).start(ECHO) as script:
        assert await script.next_line() == "ready"
        await script.write_line([1, 2])
        assert await script.next_line() == {"got": [1, 2]}


@pytest.mark.parametrize(("ci", "code", "outcome"), [("", 0, "SKIPPED"), ("true", 1, "ERROR")])
def test_without_node_these_tests_are_skipped_with_the_reason_and_fail_where_ci_is_true(
    ci: str, code: int, outcome: str
) -> None:
    one = f"{Path(__file__).relative_to(ROOT)}::{test_a_script_that_throws_fails_the_test.__name__}"
    options = ["-n", "0", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, one],
        cwd=ROOT,
        env={"PATH": "", "CI": ci},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == code, done.stdout
    (line,) = [line for line in done.stdout.splitlines() if line.startswith(outcome)]
    assert line.endswith("needs Node 18+ and npm, which are not installed")
