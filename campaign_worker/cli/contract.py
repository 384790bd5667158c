"""`campaign-worker contract`: write, check and explain the contract with an existing app."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from campaign_worker.cli.console import FAILED, exits, stdout, write_json
from campaign_worker.settings import Settings

if TYPE_CHECKING:
    from campaign_worker.check.contract import ContractReport, NameReport
    from campaign_worker.contract.reading import Source

NAME = "contract"

_HELP = """The contract with an existing app: one file instead of a fork.

CONTRACT names the file; docs/contract.md describes it.

Examples:

  campaign-worker contract init > contract.toml

  campaign-worker contract check

  campaign-worker contract explain
"""

app = typer.Typer(help=_HELP, no_args_is_help=True, rich_markup_mode=None)

File = Annotated[
    Path | None, typer.Option("--file", help="The file; without it the one CONTRACT names.")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


@app.command("init")
def init_command() -> None:
    """Write a contract to begin with, for an app of Prisma's kind, to stdout."""
    from importlib import resources

    example = resources.files("campaign_worker.contract") / "example.toml"
    sys.stdout.write(example.read_text(encoding="utf-8"))


@app.command("schema")
def schema_command() -> None:
    """Write the JSON schema of contracts, for editors, to stdout.

    Editors that know TOML take it from a first line `#:schema ./contract.schema.json`.
    """
    from campaign_worker.contract.document import schema

    sys.stdout.write(schema())


@app.command("check")
def check_command(file: File = None, as_json: AsJson = False) -> None:
    """Say whether the contract fits the database and the queues as they are, and what to change.

    Looks at no more than 5,000 jobs of a queue, takes none, and changes nothing. Addresses in
    sample rows are masked.

    Exit codes: 0 ready, 1 something has to change, 77 login refused, 78 the file or a setting is
    wrong.
    """
    with exits():
        _, report = _look(file)
    if as_json:
        write_json({"ready": report.ready, **_plain(report)})
    else:
        for line in _lines(report):
            stdout().print(line)
    raise typer.Exit(0 if report.ready else FAILED)


@app.command("explain")
def explain_command(file: File = None) -> None:
    """Say what each job name leads to, and show each statement as Postgres is given it, planned."""
    with exits():
        source, report = _look(file)
    console = stdout()
    for line in _explained(source, report):
        console.print(line)
    raise typer.Exit(0 if not report.problems else FAILED)


def _look(file: Path | None) -> tuple[Source, ContractReport]:
    from campaign_worker.check.contract import check_contract
    from campaign_worker.contract.serving import served
    from campaign_worker.errors import SettingsError

    settings = Settings.load() if file is None else Settings.load(contract=file)
    settings, source = served(settings)
    if source is None:
        raise SettingsError("CONTRACT", "is not set", "name the file, or give --file")
    return source, asyncio.run(check_contract(settings, source))


def _plain(report: ContractReport) -> dict[str, object]:
    return {
        "problems": report.problems,
        "warnings": report.warnings,
        "jobs": report.names,
        "waiting": report.waiting,
        "statements": [{"place": one.place, "columns": one.columns} for one in report.looks],
        "samples": report.samples,
    }


def _lines(report: ContractReport) -> Iterator[str]:
    yield from (f"queue {queue}: {count} jobs looked at" for queue, count in report.waiting.items())
    for name in report.names:
        yield from _of_name(name)
    for look in report.looks:
        yield f"{look.place}: {'does not fit' if look.problems else 'fits'}"
        yield from (f"    {line}" for line in look.plan)
    for sample in report.samples:
        asked = f"{sample.asked} ids" if sample.asked else "their ids"
        yield f"{sample.place}: {sample.found} rows for {asked}; the first:"
        yield from (f"    {column}: {value}" for column, value in (sample.row or {}).items())
    yield from (f"warning: {warning}" for warning in report.warnings)
    yield from (f"error: {problem}" for problem in report.problems)
    unread = sum(name.failed for name in report.names)
    faults = f"faults of the contract: {len(report.problems)}, jobs that do not parse: {unread}"
    yield "ready" if report.ready else f"not ready: {faults}"


def _of_name(name: NameReport) -> Iterator[str]:
    kinds = ", ".join(f"{count} {kind}" for kind, count in name.kinds.items()) or "none parses"
    yield f"  {name.name}: {name.seen} in {name.queue}; {kinds}"
    if name.failed:
        yield f"    {name.failed} do not parse, the first of them:"
    yield from (f"      job {job_id}: {fault}" for job_id, fault in name.failures)


def _explained(source: Source, report: ContractReport) -> list[str]:
    lines = []
    for name, job in source.contract.jobs.items():
        said = job.model_dump(exclude_none=True, exclude={"kind"}, mode="json")
        lines.append(f"job {name}: {job.kind}  {said or ''}".rstrip())
    for look in report.looks:
        statement = source.statements[look.place]
        lines += ["", f"{look.place}  (parameters: {', '.join(statement.names) or 'none'})"]
        lines += [f"  {line}" for line in statement.sql.strip().splitlines()]
        lines += ["  plan:", *(f"    {line}" for line in look.plan)]
    return lines + [f"error: {problem}" for problem in report.problems]
