"""The command line as a person and a platform meet it: a process, its outputs, its exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping

import pytest

from campaign_worker.embedded.smtp_server import SmtpSink
from tests.support import free_port, run_cli

COMMANDS = ("run", "demo", "migrate", "check", "enqueue", "status", "version")
NOWHERE = {
    "REDIS_URL": "redis://127.0.0.1:1",
    "DATABASE_URL": "postgresql://u:hidden-word@127.0.0.1:1/d",
    "SMTP_URL": "smtp://127.0.0.1:1",
    "MAIL_FROM": "news@example.org",
}


async def test_help_names_every_command_with_examples_and_exit_codes() -> None:
    result = await run_cli("--help")
    assert result.code == 0
    assert all(f"\n  {command} " in result.stdout for command in COMMANDS)
    assert "Examples:" in result.stdout
    assert "78 a" in result.stdout


@pytest.mark.parametrize("command", COMMANDS)
async def test_each_command_explains_itself(command: str) -> None:
    result = await run_cli(command, "--help")
    assert result.code == 0
    assert f"campaign-worker {command}" in result.stdout
    assert result.stderr == ""


async def test_version_prints_one_line() -> None:
    result = await run_cli("version")
    assert result.code == 0
    assert result.stdout.startswith("campaign-worker 0.")
    assert result.stdout.count("\n") == 1


# Ctrl-C in the middle of the imports.
INTERRUPTED = """
import signal, sys
from campaign_worker.__main__ import main

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "campaign_worker.cli":
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Finder())
main()
"""


def test_ctrl_c_while_it_is_imported_shows_no_stack() -> None:
    result = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "")


async def test_a_wrong_command_is_wrong_usage() -> None:
    assert (await run_cli("fly")).code == 2


@pytest.mark.parametrize("command", [("run",), ("check",), ("enqueue", "1"), ("status",)])
async def test_without_settings_it_exits_78_and_names_each_variable(
    command: tuple[str, ...],
) -> None:
    result = await run_cli(*command)
    assert result.code == 78
    assert result.stdout == ""
    assert "4 settings are wrong" in result.stderr
    for variable in ("REDIS_URL", "DATABASE_URL", "SMTP_URL", "MAIL_FROM"):
        assert f"\n  {variable}: is missing (for example {variable}=" in result.stderr


async def test_a_wrong_value_is_named_with_what_it_must_be() -> None:
    result = await run_cli("run", env={**NOWHERE, "PORT": "http", "QUEUES": "a:b"})
    assert result.code == 78
    assert "PORT: should be a valid integer" in result.stderr
    assert "QUEUES: gives queue a" in result.stderr
    assert "Traceback" not in result.stderr


async def test_migrate_needs_the_database_only() -> None:
    result = await run_cli("migrate")
    assert result.code == 78
    assert "1 setting is wrong" in result.stderr
    assert "DATABASE_URL: is missing" in result.stderr


async def test_migrate_brings_an_empty_database_up_and_then_has_nothing_to_do(
    empty_database_url: str,
) -> None:
    first = await run_cli("migrate", env={"DATABASE_URL": empty_database_url})
    second = await run_cli("migrate", env={"DATABASE_URL": empty_database_url})
    assert (first.code, second.code) == (0, 0), first.stderr + second.stderr
    assert "(applied: 1" in first.stdout
    assert "(applied: nothing to do)" in second.stdout


async def test_migrate_says_that_postgres_is_away_and_hides_the_password() -> None:
    result = await run_cli("migrate", env=NOWHERE)
    assert result.code == 1
    assert "Traceback" not in result.stderr
    assert "hidden-word" not in result.stdout + result.stderr


async def test_migrate_names_the_variable_whose_database_refuses_it(database_url: str) -> None:
    absent = database_url.rpartition("/")[0] + "/there-is-none"
    plain = await run_cli("migrate", env={"DATABASE_URL": absent})
    direct = await run_cli(
        "migrate", env={"DATABASE_URL": database_url, "MIGRATE_DATABASE_URL": absent}
    )
    assert (plain.code, direct.code) == (77, 77)
    assert plain.stderr.startswith("campaign-worker: DATABASE_URL: ")
    assert direct.stderr.startswith("campaign-worker: MIGRATE_DATABASE_URL: ")


@pytest.mark.parametrize("command", ["migrate", "status"])
async def test_options_that_postgres_refuses_are_named_by_their_variable(
    good_stack: Mapping[str, str], command: str
) -> None:
    url = good_stack["DATABASE_URL"] + "?options=nonsense"
    result = await run_cli(command, env={**good_stack, "DATABASE_URL": url})
    assert result.code == 78
    assert "\n  DATABASE_URL: Postgres refuses it: " in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("command", "number"),
    [
        ("enqueue", "none"),
        ("pause", "²"),
        ("resume", "9223372036854775808"),
        ("enqueue", "9" * 5000),
    ],
)
async def test_what_is_no_campaigns_number_is_said_before_anything_is_connected(
    command: str, number: str
) -> None:
    result = await run_cli(command, number, env=NOWHERE)
    assert result.code == 1
    assert "campaign-worker: CAMPAIGN_ID: must be a number up to 9223372036854775807" in (
        result.stderr
    )
    assert len(result.stderr) < 200


@pytest.mark.parametrize(
    "words",
    [
        ("in-doubt", "list", "--campaign", "9223372036854775808"),
        ("in-doubt", "mark-sent", "9223372036854775808"),
        ("failed", "retry", "1", "0"),
    ],
)
async def test_what_is_no_id_of_a_row_or_campaign_is_wrong_usage(words: tuple[str, ...]) -> None:
    result = await run_cli(*words, env=NOWHERE)
    assert result.code == 2
    assert "Error: Invalid value for" in result.stderr


async def test_check_says_what_is_wrong_and_how_to_mend_it() -> None:
    port = str(free_port())
    result = await run_cli("check", env={**NOWHERE, "PORT": port})
    assert result.code == 1, result.stderr
    assert "error   REDIS_URL: redis://127.0.0.1:1" in result.stdout
    assert "-> start Redis there, or correct host and port" in result.stdout
    assert "error   DATABASE_URL: postgresql://u:***@127.0.0.1:1/d" in result.stdout
    assert "error   transport default: smtp://127.0.0.1:1" in result.stdout
    assert f"ok      PORT: {port} is free" in result.stdout
    assert "hidden-word" not in result.stdout


async def test_check_is_content_with_a_good_stack(
    good_stack: Mapping[str, str],
) -> None:
    result = await run_cli("check", "--json", env=good_stack)
    report = json.loads(result.stdout)
    levels = {finding["item"]: finding["level"] for finding in report["findings"]}
    assert result.code == 0, report
    assert report["ok"] is True
    assert levels["REDIS_URL"] == levels["DATABASE_URL"] == levels["transport default"] == "ok"
    assert levels["schema campaign_worker"] == "ok"


async def test_check_exits_77_when_a_server_refuses_the_login(
    good_stack: Mapping[str, str],
) -> None:
    url = good_stack["REDIS_URL"].replace("redis://", "redis://nobody:wrong@")
    result = await run_cli("check", env={**good_stack, "REDIS_URL": url})
    assert result.code == 77
    assert "refused REDIS_URL: redis://nobody:***@" in result.stdout


@pytest.fixture
def good_stack(redis_url: str, database_url: str, smtp_sink: SmtpSink) -> dict[str, str]:
    return {
        "REDIS_URL": redis_url,
        "DATABASE_URL": database_url,
        "SMTP_URL": smtp_sink.url,
        "MAIL_FROM": "news@example.org",
        "PORT": str(free_port()),
    }
