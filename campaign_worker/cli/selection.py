"""How a command is told which mails are meant: by their rows, by a campaign, or all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from campaign_worker.cli.console import stderr, stdout, write_json

if TYPE_CHECKING:
    from campaign_worker.storage.doubts import Selection

_WRONG_USAGE = 2
_ID_MAX = 2**63 - 1

Rows = Annotated[
    list[int] | None,
    typer.Argument(min=1, max=_ID_MAX, help="Ids of rows, as `list` shows them."),
]
Campaign = Annotated[
    int | None,
    typer.Option("--campaign", min=1, max=_ID_MAX, help="All of this campaign's."),
]
AllRows = Annotated[
    bool, typer.Option("--all", help="All of every campaign, also beyond the thousand of `list`.")
]
LIST_LIMIT = 1000


def selected(rows: list[int] | None, campaign: int | None, *, every: bool) -> Selection:
    """Read what was given; exactly one of the three, or the command ends with wrong usage."""
    from campaign_worker.storage.doubts import Selection

    if bool(rows) + (campaign is not None) + every != 1:
        stderr().print("name the rows, or --campaign ID, or --all: exactly one of these")
        raise typer.Exit(_WRONG_USAGE)
    return Selection(tuple(rows) if rows else None, campaign)


def show(name: str, rows: Sequence[dict[str, Any]], said: str, *, as_json: bool) -> None:
    """Print rows: one JSON object that has them under `name`, or a line each and how many."""
    if as_json:
        write_json({name: rows})
        return
    for row in rows:
        stdout().print("  ".join(f"{key} {value}" for key, value in row.items()))
    more = "; there may be more, --campaign ID shows one campaign's" * (len(rows) == LIST_LIMIT)
    stdout().print(f"{_mails(len(rows))} {said}{more}")


def told(count: int, said: str, selection: Selection) -> None:
    """Print what became of so many mails, and of how many that were named nothing did."""
    stdout().print(f"{_mails(count)} {said}")
    others = len(set(selection.rows or ())) - count
    if others > 0:
        problem = "not in the state that this command ends, or not there; `list` shows what is"
        stderr().print(f"{others} of the rows named left as they were: {problem}")


def _mails(count: int) -> str:
    return f"{count} {'mail' if count == 1 else 'mails'}"
