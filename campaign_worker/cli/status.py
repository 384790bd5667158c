"""`campaign-worker status`: what is where, in the queues and in the campaigns."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from campaign_worker.cli.console import exits, plain, stdout, write_json
from campaign_worker.settings import Settings

NAME = "status"


def command(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Show how many jobs are in which state, and what became of each campaign's mails.

    Examples:

      campaign-worker status

      campaign-worker status --json

    Exit codes: 0 ok, 1 Redis or Postgres is away, 77 login refused, 78 settings.
    """
    with exits():
        settings = Settings.load()
        from campaign_worker import operations

        report = asyncio.run(operations.status(settings))
    if as_json:
        write_json(report)
        return
    console = stdout()
    for line in _lines(plain(report)):
        console.print(line)


def _lines(value: Any, indent: str = "") -> Iterator[str]:
    """Yield an outline: a heading for an object, a line for a value or a flat record."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            if isinstance(each, Mapping | list) and each:
                yield f"{indent}{key}"
                yield from _lines(each, indent + "  ")
            else:
                yield f"{indent}{key}: {'-' if each in (None, [], {}) else each}"
    elif isinstance(value, list):
        for each in value:
            if isinstance(each, Mapping) and not any(
                isinstance(part, Mapping | list) for part in each.values()
            ):
                yield indent + "  ".join(f"{key} {part}" for key, part in each.items())
            else:
                yield from _lines(each, indent)
    else:
        yield f"{indent}{value}"
