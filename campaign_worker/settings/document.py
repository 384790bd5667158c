"""Shows settings to people: the values of one process, masked, and the table of all of them.

Owns docs/configuration.md, which is written from the classes by `make docs`.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from campaign_worker.settings.base import Base, about, variable_of
from campaign_worker.settings.kinds import QueueSpec
from campaign_worker.settings.mailing import MailSettings, TrackingSettings
from campaign_worker.settings.model import ProcessSettings
from campaign_worker.settings.recording import RecordingSettings
from campaign_worker.settings.stores import DatabaseSettings, QueueSettings
from campaign_worker.settings.webhooks import WebhookSettings

_GROUPS: tuple[tuple[str, type[Base]], ...] = (
    ("Postgres", DatabaseSettings),
    ("Redis and BullMQ", QueueSettings),
    ("Mail", MailSettings),
    ("Tracking", TrackingSettings),
    ("What tracking keeps", RecordingSettings),
    ("Webhooks", WebhookSettings),
    ("Process", ProcessSettings),
)
_BOUNDS = (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<"))
_HEAD = """# Configuration

Written from the classes in `campaign_worker/settings/` by `make docs`; a test keeps it in step.
Do not edit.

Settings come from the environment and from a file `.env` in the working directory; the environment
wins, and an empty variable counts as unset. They are read once and checked at start, all of them:
what is wrong is listed with the variable, the fault and how to mend it, and the process exits with
code 78. Passwords and keys are masked wherever settings are shown.
"""


@dataclass(frozen=True, slots=True)
class Shown:
    """One setting of one process, fit for logs. `given` says whether somebody set it."""

    variable: str
    value: str
    given: bool


def show(settings: Base) -> tuple[Shown, ...]:
    """Return every setting, masked, in the order of the documentation."""
    return tuple(
        Shown(
            variable_of(name, field),
            _text(getattr(settings, name)),
            name in settings.model_fields_set,
        )
        for name, field in _documented(type(settings))
    )


def configuration_page() -> str:
    """Return the text of docs/configuration.md."""
    parts = [_HEAD]
    for title, group in _GROUPS:
        parts.append(f"\n## {title}\n\n{(group.__doc__ or '').strip()}\n")
        parts.append(
            "\n| Variable | Default | Unit | Check | Meaning |\n| --- | --- | --- | --- | --- |\n"
        )
        parts.extend(_row(name, field) for name, field in group.model_fields.items())
    return "".join(parts)


def _documented(cls: type[Base]) -> Iterable[tuple[str, FieldInfo]]:
    for _, group in _GROUPS:
        if issubclass(cls, group):
            yield from ((name, cls.model_fields[name]) for name in group.model_fields)


def _text(value: object) -> str:
    match value:
        case None:
            return ""
        case float():
            return f"{value:g}"
        case tuple():
            return ",".join(_text(each) for each in value)
        case QueueSpec():
            return f"{value.name}:{value.concurrency}"
        case Mapping():
            return ", ".join(f"{key}={each}" for key, each in value.items())
        case _:
            return str(value)


def _row(name: str, field: FieldInfo) -> str:
    known = about(field)
    default = known.default or ("required" if field.is_required() else _text(field.default))
    check = known.check or _check(field)
    cells = (f"`{variable_of(name, field)}`", default, known.unit, check, field.description or "")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _check(field: FieldInfo) -> str:
    bounds = [
        f"{sign} {getattr(each, bound)}"
        for each in field.metadata
        for bound, sign in _BOUNDS
        if getattr(each, bound, None) is not None
    ]
    return ", ".join(bounds) or " or ".join(_choices(field.annotation))


def _choices(annotation: Any) -> list[str]:
    if get_origin(annotation) in (Union, UnionType):
        return [each for part in get_args(annotation) for each in _choices(part)]
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return [str(each.value) for each in annotation]
    return []
