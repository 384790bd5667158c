"""bull-board, the dashboard of most apps, before a queue whose worker is ours."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from campaign_worker.embedded.smtp_server import SmtpSink
from campaign_worker.queue import Job, Worker
from tests.conformance.board import Board
from tests.conformance.conftest import StartWorker
from tests.conformance.harness import QUEUE, App, Post, job
from tests.fixtures.node import NodeBullMQ
from tests.support import eventually

pytestmark = pytest.mark.node

#: The board asks for bullmq 5.56 or later.
OF_BOARD = pytest.mark.parametrize("bullmq", [5, 6], indirect=True, ids=["bullmq-5", "bullmq-6"])
LATE_MS = 60_000


@pytest.fixture
async def board(bullmq: NodeBullMQ, redis_url: str, prefix: str) -> AsyncIterator[Board]:
    async with Board.started(bullmq, redis_url, prefix) as started:
        yield started


class Mended:
    """A processor whose jobs fail until it is mended."""

    def __init__(self) -> None:
        self.done = False

    async def __call__(self, job: Job, _token: str) -> dict[str, Any]:
        await job.update_progress({"done": 40})
        await job.log("looked up the address")
        if job.name == "flaky" and not self.done:
            raise ConnectionError("greylisted")
        return {"outcome": "sent", "n": job.data["n"]}


@contextlib.asynccontextmanager
async def working(url: str, prefix: str, processor: Any, **opts: Any) -> AsyncIterator[Worker]:
    worker = Worker(QUEUE, processor, {"connection": url, "prefix": prefix, **opts})
    try:
        yield worker
    finally:
        await worker.close()


@OF_BOARD
@pytest.mark.feature("dashboard (bull-board): jobs, logs, workers, retry")
async def test_the_board_shows_our_jobs_and_its_buttons_move_them(
    app: App, board: Board, redis_url: str, prefix: str
) -> None:
    processor = Mended()
    options = {"name": "replica-1", "metrics": {"maxDataPoints": 60}}
    async with working(redis_url, prefix, processor, **options):
        await app.add(
            job({"n": 1}, jobId="good"),
            job({"n": 2}, jobId="bad", name="flaky", attempts=2),
            job({"n": 3}, jobId="late", delay=LATE_MS),
        )
        await eventually(lambda: board.shows(completed=1, failed=1, delayed=1))
        await _check_good(board)
        await _check_bad(board)
        late = (await board.listed("delayed"))["late"]
        assert (late["delay"], late["isFailed"], late["data"]) == (LATE_MS, False, {"n": 3})
        await eventually(lambda: _names_worker(board))
        processor.done = True
        await board.put(f"/api/queues/{QUEUE}/bad/retry")
        await board.put(f"/api/queues/{QUEUE}/late/promote")
        await eventually(lambda: board.shows(completed=3))
        mended = (await board.listed("completed"))["bad"]
        assert (mended["returnValue"], mended["attempts"]) == ({"outcome": "sent", "n": 2}, 3)
        metrics = await board.get(f"/api/queues/{QUEUE}/metrics")
        assert (metrics["completed"]["meta"]["count"], metrics["failed"]["meta"]["count"]) == (3, 1)
    await eventually(lambda: _names_nobody(board))


async def _check_good(board: Board) -> None:
    good = (await board.listed("completed"))["good"]
    assert good["returnValue"] == {"outcome": "sent", "n": 1}
    assert (good["attempts"], good["isFailed"], good["processedBy"]) == (1, False, "replica-1")
    assert good["progress"] == {"done": 40}
    assert good["timestamp"] <= good["processedOn"] <= good["finishedOn"] <= time.time() * 1000
    assert await board.get(f"/api/queues/{QUEUE}/good/logs") == ["looked up the address"]
    alone = await board.get(f"/api/queues/{QUEUE}/good")
    assert (alone["status"], alone["job"]["id"]) == ("completed", "good")


async def _check_bad(board: Board) -> None:
    bad = (await board.listed("failed"))["bad"]
    assert (bad["failedReason"], bad["attempts"], bad["isFailed"]) == ("greylisted", 2, True)
    assert [trace.splitlines()[-1] for trace in bad["stacktrace"]] == [
        "ConnectionError: greylisted"
    ] * 2
    assert "test_dashboard.py" in bad["stacktrace"][0]


async def _names_worker(board: Board) -> bool:
    workers = (await board.get(f"/api/queues/{QUEUE}/workers"))["workers"]
    assert [worker["name"] for worker in workers] == ["replica-1"]
    return bool((await board.overview())["hasWorkers"])


async def _names_nobody(board: Board) -> bool:
    workers = (await board.get(f"/api/queues/{QUEUE}/workers"))["workers"]
    return (workers, (await board.overview())["hasWorkers"]) == ([], False)


@OF_BOARD
@pytest.mark.feature("dashboard (bull-board): pause, resume, empty, remove, retry and promote all")
async def test_the_buttons_of_the_whole_queue_work(
    app: App, board: Board, redis_url: str, prefix: str
) -> None:
    processor = Mended()
    here = f"/api/queues/{QUEUE}"
    async with working(redis_url, prefix, processor):
        await board.put(f"{here}/pause")
        await app.add(job({"n": 0}, jobId="unwanted"))
        assert (await board.overview())["isPaused"]
        await board.put(f"{here}/empty")
        assert await board.counts() == {}
        await app.add(*(job({"n": n}, jobId=f"f{n}", name="flaky") for n in range(3)))
        await board.put(f"{here}/resume")
        await eventually(lambda: board.shows(failed=3))
        await board.put(f"{here}/f0/clean")
        assert sorted(await board.listed("failed")) == ["f1", "f2"]
        processor.done = True
        await board.put(f"{here}/retry/failed")
        await eventually(lambda: board.shows(completed=2))
        await app.add(job({"n": 1}, delay=LATE_MS))
        await board.put(f"{here}/promote")
        await eventually(lambda: board.shows(completed=3))


@OF_BOARD
@pytest.mark.feature("dashboard (bull-board): jobs, logs, workers, retry")
async def test_a_mail_whose_job_failed_is_sent_when_somebody_presses_retry(
    app: App, board: Board, our_worker: StartWorker, post: Post, smtp_sink: SmtpSink
) -> None:
    mail = {"to": "a@example.net", "subject": "S", "text": "T", "campaignId": 1}
    async with our_worker(INSTANCE_ID="replica-1"):
        await app.add(job(mail, jobId="mail"))
        await eventually(lambda: board.shows(failed=1))
        failed = (await board.listed("failed"))["mail"]
        assert failed["failedReason"].startswith("campaignId")
        assert await post.campaign([]) == (1, [])
        await board.put(f"/api/queues/{QUEUE}/mail/retry")
        await eventually(lambda: board.shows(completed=1))
        sent = (await board.listed("completed"))["mail"]
    message_id = smtp_sink.mails[0].message_id
    assert sent["returnValue"] == {"outcome": "sent", "messageId": message_id}
    assert (sent["attempts"], sent["processedBy"]) == (2, "replica-1")
    assert len(smtp_sink.mails) == 1


@OF_BOARD
@pytest.mark.feature("dashboard (bull-board): limits, flows, job schedulers")
async def test_limits_that_are_set_on_the_board_hold_for_our_worker(
    app: App, board: Board, redis_url: str, prefix: str
) -> None:
    here = f"/api/queues/{QUEUE}"
    most = active = 0

    async def process(job: Job, _token: str) -> None:
        nonlocal active, most
        active += 1
        most = max(most, active)
        for row in ("some", "round trips", "of work"):
            await job.log(row)
        active -= 1

    await board.put(f"{here}/concurrency", {"concurrency": 1})
    await app.add(*(job({"n": n}) for n in range(12)))
    async with working(redis_url, prefix, process, concurrency=4):
        await eventually(lambda: board.shows(completed=12))
        assert (most, (await board.overview())["globalConcurrency"]) == (1, 1)
        await board.put(f"{here}/concurrency", {"concurrency": 0})
        await board.put(f"{here}/rate-limit", {"max": 1, "duration": 60_000})
        await app.add(*(job({"n": n}) for n in range(2)))
        await eventually(lambda: board.shows(completed=13, waiting=1))
        assert (await board.overview())["activeRateLimitTtl"] > 0
        await board.put(f"{here}/rate-limit", {"max": None, "duration": None})
        await board.put(f"{here}/rate-limit/release")
    # Whoever waits for a limit's end looks again when it should be over: a new worker looks now.
    async with working(redis_url, prefix, process):
        await eventually(lambda: board.shows(completed=14))


@OF_BOARD
@pytest.mark.feature("dashboard (bull-board): limits, flows, job schedulers")
async def test_the_board_follows_our_schedulers_and_draws_our_flows(
    app: App, board: Board, redis_url: str, prefix: str
) -> None:
    template = {"name": "tick", "data": {"n": 1}, "opts": {}}
    await app.call("schedule", "hourly", {"every": 3_600_000}, template, QUEUE)
    child = {**job({"n": 2}, jobId="child"), "queueName": QUEUE}
    parent = {**job({"n": 3}, jobId="parent"), "queueName": QUEUE, "children": [child]}
    await app.call("flow", parent)
    async with working(redis_url, prefix, Mended()):
        await eventually(lambda: board.shows(completed=3, delayed=1))
    (scheduler,) = (await board.get("/api/job-schedulers"))["schedulers"]
    (following,) = (await board.listed("delayed")).values()
    assert (scheduler["id"], scheduler["iterationCount"]) == ("hourly", 2)
    assert scheduler["nextRunJobId"] == following["id"]
    assert scheduler["lastRunJobId"] in await board.listed("completed")
    assert abs(scheduler["next"] - following["timestamp"] - following["delay"]) < 5000
    flow = await board.get(f"/api/queues/{QUEUE}/child/flow")
    root = flow["flowRoot"]
    assert (flow["isFlowNode"], root["id"], root["state"]) == (True, "parent", "completed")
    assert [(one["id"], one["state"]) for one in root["children"]] == [("child", "completed")]
