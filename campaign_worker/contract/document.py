"""Writes docs/contract.schema.json and the tables of docs/contract.md from the model's classes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

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
    Write,
)
from campaign_worker.contract.statements import SPECS, Form, Spec

SCHEMA_FILE = Path("docs/contract.schema.json")
PAGE_FILE = Path("docs/contract.md")
MARK = "<!-- below: written by `make docs` from campaign_worker/contract/model.py; do not edit -->"

_TABLES: tuple[tuple[str, type[BaseModel]], ...] = (
    ("The file", Contract),
    ("`[queues.<name>]`", Queue),
    ("`limiter`", Limit),
    ('`[jobs.<name>]`, `kind = "send"`', SendJob),
    ("`[jobs.<name>.mail]`", MailFields),
    ('`[jobs.<name>]`, `kind = "follow-up"`', FollowUpJob),
    ('`[jobs.<name>]`, `kind = "launch"`', LaunchJob),
    ('`[jobs.<name>]`, `kind = "park"`', ParkJob),
    ('`[jobs.<name>]`, `kind = "fail"`', FailJob),
    ("`[ids]`", Ids),
    ("`[load]`", Load),
    ("`[load.campaigns]`", LoadCampaigns),
    ("`[write]`", Write),
    ("`[follow_ups]`", FollowUps),
)


def schema() -> str:
    """Return the JSON schema (2020-12), for editors."""
    made = Contract.model_json_schema(by_alias=True)
    made["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    made["title"] = "contract.toml of campaign-worker"
    return json.dumps(made, indent=1, sort_keys=True) + "\n"


def reference() -> str:
    """Return the part of docs/contract.md that is made of the classes."""
    return "\n".join([MARK, "", *_keys(), *_statements()])


def write() -> None:
    """Write both files, where the working directory is the project."""
    SCHEMA_FILE.write_text(schema(), encoding="utf-8")
    by_hand = PAGE_FILE.read_text(encoding="utf-8").partition(MARK)[0]
    PAGE_FILE.write_text(by_hand + reference(), encoding="utf-8")


def _keys() -> Iterator[str]:
    yield "## Keys"
    for title, model in _TABLES:
        yield f"\n### {title}\n\n{_plain(model.__doc__ or '')}\n"
        rows = [row for name, field in model.model_fields.items() if (row := _row(name, field))]
        if rows:
            yield "| Key | Default | Meaning |\n| --- | --- | --- |"
            yield from rows
    yield ""


def _row(name: str, field: FieldInfo) -> str:
    if name == "kind":
        return ""
    default = "required" if field.is_required() else _default(field)
    return f"| `{field.alias or name}` | {default} | {_plain(field.description or '')} |"


def _default(field: FieldInfo) -> str:
    value: Any = field.get_default(call_default_factory=True)
    match value:
        case None:
            return ""
        case BaseModel():
            return "see below"
        case dict():
            return ", ".join(f"{key} = {one}" for key, one in value.items())
        case _:
            return str(getattr(value, "value", value))


def _statements() -> Iterator[str]:
    yield "## Statements"
    for spec in SPECS:
        yield f"\n### `[{spec.place}]`\n\n{spec.about}\n"
        yield "| Parameter | Type |\n| --- | --- |"
        for name, text in spec.parameters.items():
            yield f"| `:{name}` | {_type(text)} |"
        if spec.required or spec.optional:
            yield "\n| Column | Type | |\n| --- | --- | --- |"
            yield from _columns(spec)
    yield ""


def _columns(spec: Spec) -> Iterator[str]:
    for name, form in spec.required.items():
        yield f"| `{name}` | {_form(form)} | required |"
    for name, form in spec.optional.items():
        need = f"one of {' and '.join(spec.needs_one_of)}" if name in spec.needs_one_of else ""
        yield f"| `{name}` | {_form(form)} | {need} |"
    if spec.free:
        yield "| any other | any | a variable of templates |"


def _type(text: str) -> str:
    return text.format(campaign="`[ids] campaign`", recipient="`[ids] recipient`")


def _form(form: Form) -> str:
    return form.value


def _plain(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
