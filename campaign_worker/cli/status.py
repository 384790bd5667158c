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

    Numbers that are 0 are left out, except in JSON.

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
    shown = plain(report)
    # There a 0 is as telling as what contradicts it.
    untrue = shown.pop("untrue_counts")
    for line in (*_lines(_without_zeros(shown)), *_lines({"untrue_counts": untrue})):
        console.print(line)


def _without_zeros(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_zeros(each) for key, each in value.items() if each != 0}
    return [_without_zeros(each) for each in value] if isinstance(value, list) else value


def _lines(value: Any, indent: str = "") -> Iterator[str]:
    """Yield an outline: a heading for what has parts of its own, a line for what has none."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            if _has_parts(each):
                yield f"{indent}{key}"
                yield from _lines(each, indent + "  ")
            else:
                yield f"{indent}{key}: {_flat(each)}"
    else:
        yield from (f"{indent}{_flat(each)}" for each in value)


def _has_parts(value: Any) -> bool:
    parts = value.values() if isinstance(value, Mapping) else value
    return bool(value) and (
        isinstance(value, list)
        or (isinstance(value, Mapping) and any(isinstance(each, Mapping | list) for each in parts))
    )


def _flat(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {part}" for key, part in value.items()) or "-"
    return "-" if value in (None, []) else str(value)
