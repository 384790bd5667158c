"""What all commands share: where text goes, and which exit code an error ends in.

Results go to stdout, troubles to stderr. Nothing here is a decision about mail or jobs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import enum
import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from campaign_worker.errors import CampaignWorkerError, CredentialsRefused, SettingsError
from shutdown import ExitCode

if TYPE_CHECKING:
    from rich.progress import Progress

FAILED = 1

_PROGRAM = "campaign-worker"


def stdout() -> Console:
    """Return a console for results; texts are never read as markup."""
    return Console(markup=False, highlight=False, soft_wrap=True)


def stderr() -> Console:
    """Return a console for troubles."""
    return Console(stderr=True, markup=False, highlight=False, soft_wrap=True)


def progress_bar() -> Progress:
    """Return a bar on stderr that goes when it is done; where nobody looks it writes nothing."""
    from rich.progress import Progress

    console = stderr()
    return Progress(console=console, transient=True, disable=not console.is_terminal)


@contextlib.contextmanager
def exits() -> Iterator[None]:
    """Turn the errors of our tree into one line each and an exit code; others pass through."""
    try:
        yield
    except SettingsError as error:
        _say_settings(error)
        raise typer.Exit(ExitCode.SETTINGS) from None
    except CredentialsRefused as error:
        stderr().print(f"{_PROGRAM}: {error}")
        raise typer.Exit(ExitCode.CREDENTIALS_REFUSED) from None
    except CampaignWorkerError as error:
        stderr().print(f"{_PROGRAM}: {error}")
        raise typer.Exit(FAILED) from None


def _say_settings(error: SettingsError) -> None:
    lines = str(error).splitlines()
    wrong = "1 setting is wrong" if len(lines) == 1 else f"{len(lines)} settings are wrong"
    console = stderr()
    console.print(f"{_PROGRAM}: {wrong}; docs/configuration.md describes them all")
    for line in lines:
        console.print(f"  {line}")


def plain(value: object) -> Any:
    """Return JSON for a record: dataclasses as objects, enums as values, times as ISO 8601."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {field.name: plain(getattr(value, field.name)) for field in fields}
    match value:
        case enum.Enum():
            return value.value
        case dict():
            return {str(plain(key)): plain(each) for key, each in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(each) for each in value]
        case dt.datetime():
            return value.isoformat()
        case _:
            return value


def write_json(value: object) -> None:
    """Write one JSON object on one line to stdout, and nothing else."""
    sys.stdout.write(json.dumps(plain(value)) + "\n")
