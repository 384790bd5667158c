"""The demo as a person runs it: it counts every mail, open and click, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from tests.support import eventually, run_cli, start_cli

DEMO_SECONDS = 55.0
STOP_SECONDS = 15.0
OPEN_OF_NOBODY = """
    INSERT INTO campaign_worker.tracking_events (id, message_id, kind, class, machine, occurred_at)
    SELECT gen_random_uuid(), id, 'open', 'human', false, now()
    FROM campaign_worker.messages WHERE state = 'sent' ORDER BY id LIMIT 1
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return the folder for temporary files of a demo; all of its processes name it somewhere."""
    # Root's Postgres runs as another user, who cannot pass pytest's own folder.
    found = Path(tempfile.mkdtemp(prefix="campaign-worker-test-demo-"))
    found.chmod(0o711)
    yield found
    for process in processes_of(found):
        process.kill()
    shutil.rmtree(found)


def processes_of(folder: Path) -> list[psutil.Process]:
    return [process for process in psutil.process_iter() if _names(process, str(folder))]


def _names(process: psutil.Process, folder: str) -> bool:
    try:
        places = [process.cwd(), *process.cmdline(), process.environ().get("TMPDIR", "")]
    except psutil.Error:
        return False
    return any(folder in place for place in places)


def listed(processes: list[psutil.Process]) -> list[str]:
    return [f"{process.pid} {process.name()}" for process in processes]


class RunningDemo:
    """A demo that was started; what it says on stderr is read all the time."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path) -> None:
        self.process = process
        self.folder = folder
        self.said = ""
        self.printed = b""
        self._reading = [
            asyncio.create_task(self._read_errors()),
            asyncio.create_task(self._read_output()),
        ]

    async def says(self, words: str) -> str:
        def heard() -> str:
            found = re.search(words, self.said)
            return found.group() if found else ""

        return await eventually(heard, 30, says=f"{words!r} on stderr")

    async def end(self, timeout_seconds: float = STOP_SECONDS) -> int:
        async with asyncio.timeout(timeout_seconds):
            code = await self.process.wait()
            await asyncio.gather(*self._reading)
        return code

    def worker(self, name: str) -> psutil.Process:
        (found,) = [
            process
            for process in processes_of(self.folder)
            if process.environ().get("INSTANCE_ID") == name
        ]
        return found

    async def _read_errors(self) -> None:
        assert self.process.stderr is not None
        while line := await self.process.stderr.readline():
            self.said += line.decode()

    async def _read_output(self) -> None:
        assert self.process.stdout is not None
        self.printed = await self.process.stdout.read()


@contextlib.asynccontextmanager
async def demo(folder: Path, *arguments: str) -> AsyncIterator[RunningDemo]:
    process = await start_cli("demo", *arguments, env={"TMPDIR": str(folder)})
    running = RunningDemo(process, folder)
    try:
        yield running
    finally:
        if process.returncode is None:
            process.kill()
            await running.end()


def assert_nothing_left(folder: Path) -> None:
    assert listed(processes_of(folder)) == []
    assert list(folder.iterdir()) == []


async def test_a_campaign_with_a_redeploy_adds_up_and_leaves_nothing(folder: Path) -> None:
    settings_of_somebody = {"SMTP_URL": "nonsense", "CONCURRENCY": "x", "TMPDIR": str(folder)}
    result = await run_cli(
        *("demo", "--recipients", "40", "--json"),
        env=settings_of_somebody,
        timeout_seconds=DEMO_SECONDS,
    )
    assert result.code == 0, result.stderr
    report = json.loads(result.stdout)
    assert result.stdout.count("\n") == 1
    assert report["adds_up"] is True
    # Where the machine was so busy that an unsubscribe came late, that follow-up may have gone out.
    assert report["skipped"] <= report["unsubscribed"] == 2
    assert (report["enqueued"], report["follow_ups"]) == (40, 40 - report["skipped"])
    assert report["accepted"] == report["sent"] == 80 - report["skipped"]
    assert (report["lost"], report["duplicated"], report["miscounted"]) == (0, 0, 0)
    assert (report["opened"], report["opens"], report["machine_opens"]) == (26, 28, 8)
    assert (report["clicked"], report["clicks"], report["machine_clicks"]) == (10, 10, 12)
    assert {name: report[name] for name in report["read"]} == report["read"]
    assert report["handed_over"] == report["finished_in_drain"] + report["handed_back"] >= 1
    assert report["seconds"] < 60
    assert_nothing_left(folder)


async def test_without_a_redeploy_one_worker_sends_it_all(folder: Path) -> None:
    result = await run_cli(
        *("demo", "--recipients", "20", "--no-redeploy"),
        env={"TMPDIR": str(folder)},
        timeout_seconds=DEMO_SECONDS,
    )
    assert result.code == 0, result.stderr
    assert re.search(r"mails accepted by the SMTP server +│ +(39|40) ", result.stdout)
    assert re.search(r"mails opened by people +│ +13 ", result.stdout)
    assert re.search(r"[1-9][0-9]* opened, [1-9][0-9]* clicked, 1 unsubscribed", result.stderr)
    assert result.stdout.endswith("Every number adds up.\n")
    assert "worker-b" not in result.stderr
    assert_nothing_left(folder)


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        ("Postgres from", signal.SIGINT),
        ("jobs enqueued", signal.SIGTERM),
        ("SIGTERM to worker-a", signal.SIGINT),
    ],
)
async def test_a_signal_at_any_moment_leaves_nothing_behind(
    folder: Path, moment: str, number: signal.Signals
) -> None:
    async with demo(folder, "--recipients", "40", "--json") as running:
        await running.says(moment)
        running.process.send_signal(number)
        assert await running.end() == 128 + number
        assert f"ended by {number.name}; nothing is left running" in running.said
        assert running.printed == b""
    assert_nothing_left(folder)


async def test_a_second_ctrl_c_ends_it_at_once_and_leaves_nothing_behind(folder: Path) -> None:
    async with demo(folder, "--recipients", "40") as running:
        await running.says("worker-a is up")
        running.process.send_signal(signal.SIGINT)
        running.process.send_signal(signal.SIGTERM)
        assert await running.end() in {128 + signal.SIGINT, 128 + signal.SIGTERM}
    assert_nothing_left(folder)


@pytest.mark.parametrize("name", ["worker-a", "tracker"])
async def test_a_process_that_dies_fails_the_demo_with_one_clear_line(
    folder: Path, name: str
) -> None:
    async with demo(folder, "--recipients", "40", "--json") as running:
        await running.says("worker-a is up")
        running.worker(name).kill()
        assert await running.end() == 1
        last = running.said.splitlines()[-1]
        assert last == f"campaign-worker: {name}: ended by itself with exit code -9"
        assert '"message": ' in running.said, "the end of its log"
        assert running.printed == b""
    assert_nothing_left(folder)


async def test_numbers_that_do_not_add_up_are_named_and_exit_1(folder: Path) -> None:
    async with demo(folder, "--recipients", "20", "--no-redeploy", "--json") as running:
        database_url = await running.says(r"postgresql://\S+")
        await running.says("jobs enqueued")
        connection = await asyncpg.connect(database_url)
        await connection.execute(
            "UPDATE campaign_worker.recipients SET unsubscribed_at = now()"
            " WHERE email = 'person-20@demo.example'"
        )

        async def an_open_of_nobody() -> bool:
            return await connection.execute(OPEN_OF_NOBODY) == "INSERT 0 1"

        await eventually(an_open_of_nobody, 30)
        await connection.close()
        assert await running.end(DEMO_SECONDS) == 1
    report = json.loads(running.printed)
    assert (report["lost"], report["accepted"]) == (2, 39 - report["skipped"])
    assert report["adds_up"] is False
    assert report["miscounted"] >= 2
    assert "2 mails are lost" in report["problems"]
    assert "2 recipients unsubscribed in Postgres instead of 1" in report["problems"]
    assert (report["opens"], report["read"]["opens"]) == (15, 14)
    assert "15 opens by people in Postgres instead of 14" in report["problems"]
    assert_nothing_left(folder)


async def test_keep_leaves_the_servers_up_until_ctrl_c(folder: Path) -> None:
    async with demo(folder, "--recipients", "20", "--no-redeploy", "--keep", "--json") as running:
        redis_url = (await running.says(r"REDIS_URL=\S+")).partition("=")[2]
        database_url = (await running.says(r"DATABASE_URL=\S+")).partition("=")[2]
        smtp_url = (await running.says(r"SMTP_URL=\S+")).partition("=")[2]
        await running.says("Accepted mails")
        status = await run_cli(
            *("status", "--json"),
            env={
                "REDIS_URL": redis_url,
                "DATABASE_URL": database_url,
                "SMTP_URL": smtp_url,
                "MAIL_FROM": "a@demo.example",
            },
        )
        assert status.code == 0, status.stderr
        sent = json.loads(status.stdout)["campaigns"][0]["sent_count"]
        assert sent in {39, 40}
        running.process.send_signal(signal.SIGINT)
        assert await running.end() == 0
        assert json.loads(running.printed)["accepted"] == sent
    assert_nothing_left(folder)


@pytest.mark.parametrize("recipients", ["0", "-1", "1000000", "many"])
async def test_a_number_of_recipients_that_makes_no_sense_is_wrong_usage(recipients: str) -> None:
    result = await run_cli("demo", "--recipients", recipients)
    assert result.code == 2
    assert "'--recipients'" in result.stderr
    assert "Traceback" not in result.stderr
