"""Reads contract.toml: all that is wrong with it at once, each fault with file, line and remedy.

Opens no connection: what only the database can say is asked by storage.
"""

from __future__ import annotations

import difflib
import fnmatch
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from campaign_worker.contract import toml_lines
from campaign_worker.contract.model import (
    Contract,
    FailJob,
    FollowUpJob,
    FollowUps,
    Ids,
    LaunchJob,
    Limit,
    Load,
    LoadCampaigns,
    MailFields,
    ParkJob,
    Queue,
    SendJob,
    Statement,
    Write,
)
from campaign_worker.contract.named import BadStatement, Numbered, numbered
from campaign_worker.contract.rules import broken_rules
from campaign_worker.contract.statements import Spec, given
from campaign_worker.contract.toml_lines import TomlLines
from campaign_worker.errors import ContractError, ContractProblem

_MAX_BYTES = 1024 * 1024
_PLACE_OF_FAULT = re.compile(r"\(at line (\d+), column \d+\)")
_JOBS: dict[str, type[BaseModel]] = {
    "send": SendJob,
    "follow-up": FollowUpJob,
    "launch": LaunchJob,
    "park": ParkJob,
    "fail": FailJob,
}

_TABLES: tuple[tuple[str, tuple[type[BaseModel], ...]], ...] = (
    ("", (Contract,)),
    ("queues.*.limiter", (Limit,)),
    ("queues.*", (Queue,)),
    ("jobs.*.mail", (MailFields,)),
    ("jobs.*", tuple(_JOBS.values())),
    ("ids", (Ids,)),
    ("load", (Load,)),
    ("load.campaigns", (LoadCampaigns,)),
    ("write", (Write,)),
    ("load.*", (Statement,)),
    ("write.*", (Statement,)),
    ("follow_ups", (FollowUps,)),
)
"""What may stand in which table; the first that fits."""


@dataclass(frozen=True, slots=True)
class Source:
    """A contract and where its parts stand. `file` is the name as it was given."""

    file: str
    contract: Contract
    lines: TomlLines
    statements: Mapping[str, Numbered]

    def problem(self, place: str, problem: str, mend: str = "") -> ContractProblem:
        """Describe a fault at `load.recipients` or the like."""
        line = self.lines.line(tuple(place.split(".")))
        return ContractProblem(self.file, line, place, problem, mend)

    def problem_in(
        self, spec: Spec, position: int | None, problem: str, mend: str = ""
    ) -> ContractProblem:
        """Describe a fault of a statement; `position` in its SQL is Postgres', from 1."""
        path = (*spec.place.split("."), "query")
        statement = spec.of(self.contract)
        if position is None or statement is None:
            return ContractProblem(self.file, self.lines.line(path), spec.place, problem, mend)
        offset = self.statements[spec.place].source_offset(position - 1)
        line = self.lines.line_within(path, statement.query, offset)
        return ContractProblem(self.file, line, spec.place, problem, mend)


def load(path: Path) -> Source:
    """Read a file. Raises ContractError."""
    file = str(path)
    try:
        with path.open("rb") as stream:
            content = stream.read(_MAX_BYTES + 1)
        text = content.decode()
    except OSError as error:
        mend = "set CONTRACT to its path, or write one: campaign-worker contract init"
        problem = ContractProblem(file, 1, "file", error.strerror or str(error), mend)
        raise ContractError((problem,)) from error
    except UnicodeDecodeError as error:
        raise ContractError((ContractProblem(file, 1, "file", "is not UTF-8"),)) from error
    if len(content) > _MAX_BYTES:
        raise ContractError((ContractProblem(file, 1, "file", "is larger than a megabyte"),))
    return read(text, file)


def read(text: str, file: str = "contract.toml") -> Source:
    """Read a text. Raises ContractError with every fault that was found."""
    # TOML's own newline; tomllib folds the other one away, and positions would differ.
    text = text.replace("\r\n", "\n")
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = _PLACE_OF_FAULT.search(str(error))
        line = int(found[1]) if found else text.count("\n") + 1
        said = _PLACE_OF_FAULT.sub("", str(error)).strip()
        raise ContractError((ContractProblem(file, line, "TOML", said),)) from error
    lines = TomlLines(text)
    try:
        contract = Contract.model_validate(document)
    except ValidationError as error:
        found_wrong = error.errors(include_url=False)
        raise ContractError(
            tuple(_problem(one, file, lines, document) for one in found_wrong)
        ) from None
    problems = [
        ContractProblem(file, lines.line(path), _place(path), problem, mend)
        for path, problem, mend in broken_rules(contract)
    ]
    statements: dict[str, Numbered] = {}
    problems += _number(contract, statements, file, lines)
    if problems:
        raise ContractError(tuple(problems))
    return Source(file, contract, lines, statements)


def _number(
    contract: Contract, statements: dict[str, Numbered], file: str, lines: TomlLines
) -> Iterator[ContractProblem]:
    for spec, statement in given(contract):
        try:
            statements[spec.place] = numbered(statement.query, spec.types(contract.ids))
        except BadStatement as error:
            path = (*spec.place.split("."), "query")
            line = lines.line_within(path, statement.query, error.offset)
            yield ContractProblem(file, line, spec.place, error.problem)


def _problem(
    error: Mapping[str, Any], file: str, lines: TomlLines, document: dict[str, Any]
) -> ContractProblem:
    path = _path(error["loc"], document)
    problem, mend = str(error["msg"]).removeprefix("Input "), ""
    if error["type"] == "extra_forbidden":
        problem = "is not known here"
        known = _known(path)
        close = difflib.get_close_matches(str(path[-1]), known, n=1)
        mend = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
    elif error["type"] == "missing":
        problem = "is missing"
    elif error["type"].startswith("union_tag"):
        problem = f"needs a kind: {', '.join(_JOBS)}"
    return ContractProblem(file, lines.line(path), _place(path), problem, mend)


def _path(location: tuple[str | int, ...], document: dict[str, Any]) -> toml_lines.Path:
    """Give the path in the file: pydantic names the members of unions as well."""
    path: list[str | int] = []
    value: Any = document
    for step in location:
        inside = isinstance(value, dict | list)
        if path and path[0] == "jobs" and len(path) == 2 and step in _JOBS:  # noqa: PLR2004 - jobs, name
            if not (isinstance(value, dict) and step in value):
                continue
        elif not inside or step == "[key]":
            break
        path.append(step)
        if isinstance(value, dict):
            value = value.get(str(step))
        elif isinstance(value, list) and isinstance(step, int):
            value = value[step] if step < len(value) else None
    return tuple(path)


def _known(path: toml_lines.Path) -> list[str]:
    """Give the keys that may stand where an unknown one does."""
    table = ".".join(str(step) for step in path[:-1])
    models = next((models for known, models in _TABLES if fnmatch.fnmatch(table, known)), ())
    return sorted({alias for model in models for alias in _aliases(model)})


def _aliases(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _place(path: toml_lines.Path) -> str:
    return ".".join(str(step) for step in path) or "file"
