"""`campaign-worker check`: says what is wrong before a campaign finds out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from campaign_worker.cli.console import FAILED, exits, stdout, write_json
from campaign_worker.settings import Settings
from shutdown import ExitCode

if TYPE_CHECKING:
    from campaign_worker.check import Finding

NAME = "check"
_STYLES = {"ok": "green", "warning": "yellow", "error": "red", "refused": "red"}


def command(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Connect to everything that the settings name, and say what is wrong and how to mend it.

    Looks at Redis, Postgres, every SMTP server (connect, EHLO, login; no mail), the port and the
    drain window, all at once, 5 seconds at most for each. Changes nothing.

    Examples:

      campaign-worker check

      campaign-worker check --json | jq '.findings[] | select(.level != "ok")'

    Exit codes: 0 fine (warnings do not fail), 1 something is wrong, 77 a server refused the
    login, 78 a setting is wrong.
    """
    with exits():
        settings = Settings.load()
        from campaign_worker.check import run_checks

        findings = asyncio.run(run_checks(settings))
    code = _exit_code(findings)
    if as_json:
        write_json({"ok": code == ExitCode.OK, "findings": findings})
    else:
        _print(findings)
    raise typer.Exit(code)


def _exit_code(findings: Sequence[Finding]) -> int:
    levels = {finding.level.value for finding in findings}
    if "refused" in levels:
        return ExitCode.CREDENTIALS_REFUSED
    return FAILED if "error" in levels else ExitCode.OK


def _print(findings: Sequence[Finding]) -> None:
    console = stdout()
    for finding in findings:
        level = finding.level.value
        line = Text(f"{level:8}", style=_STYLES[level])
        line.append(f"{finding.item}: {finding.text}", style="default")
        console.print(line)
        if finding.mend:
            console.print(f"        -> {finding.mend}")
