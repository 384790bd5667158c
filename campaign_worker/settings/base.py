"""How settings are read: once, from the environment and `.env`, frozen, and all errors at once.

Owns the link between attribute and variable, and the translation of pydantic's findings into ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self, cast

from pydantic import AliasChoices, AliasGenerator, PrivateAttr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from campaign_worker.errors import InvalidSettings, SettingsError
from campaign_worker.settings.kinds import About, Wrong
from campaign_worker.settings.misnamed import misnamed

NAMED_TRANSPORTS = "SMTP_URL_<NAME>"
_TRANSPORT = re.compile(r"SMTP_URL_(.+)")
_SHOWN_VALUE_MAX = 60


class _NamedTransports(PydanticBaseSettingsSource):
    """Collects SMTP_URL_<NAME>, whose names nobody knows beforehand, into one mapping."""

    def __init__(
        self, settings_cls: type[BaseSettings], sources: tuple[PydanticBaseSettingsSource, ...]
    ) -> None:
        super().__init__(settings_cls)
        self._variables: dict[str, str] = {}
        for source in reversed(sources):
            if isinstance(source, EnvSettingsSource):
                self._variables.update({k: v for k, v in source.env_vars.items() if v})

    def get_field_value(
        self,
        field: FieldInfo,  # noqa: ARG002 -- pydantic's signature
        field_name: str,
    ) -> tuple[Any, str, bool]:
        """Return nothing: no single variable stands for the mapping."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return {NAMED_TRANSPORTS: {variable: url}}, or nothing when there is none."""
        found = {name: url for name, url in self._variables.items() if _TRANSPORT.fullmatch(name)}
        return {NAMED_TRANSPORTS: found} if found else {}


class Base(BaseSettings):
    """What all groups of settings share. An empty variable counts as unset."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        case_sensitive=True,
        env_ignore_empty=True,
        validate_default=True,
        validate_by_name=True,
        validate_by_alias=True,
        allow_inf_nan=False,
        alias_generator=AliasGenerator(validation_alias=str.upper),
        env_file=".env",
        enable_decoding=False,
        env_file_encoding="utf-8",
    )

    _misnamed: dict[str, str] = PrivateAttr(default_factory=dict)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 -- pydantic's signature
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order: arguments, environment, .env."""
        named = _NamedTransports(settings_cls, (env_settings, dotenv_settings))
        return init_settings, named, env_settings, dotenv_settings

    @classmethod
    def load(cls, *, env_file: Path | None = Path(".env"), **values: object) -> Self:
        """Read everything once; `values` (by attribute) win over the environment.

        Raises errors.InvalidSettings with one problem for each wrong variable.
        """
        arguments = cast("dict[str, Any]", {"_env_file": env_file, **values})
        try:
            doubted = _find_misnamed(cls, env_file, values)
            settings = cls(**arguments)
        except ValidationError as found:
            raise InvalidSettings(_problems(cls, found, doubted)) from None
        except (UnicodeDecodeError, OSError) as error:
            raise InvalidSettings((_unreadable(env_file, error),)) from None
        settings._misnamed.update(doubted)
        return settings

    @property
    def misnamed(self) -> tuple[str, ...]:
        """What was set and is no setting, but nearly one: a sentence each."""
        return tuple(
            f"{name}: is no setting, and does nothing; is {meant} meant?"
            for meant, name in self._misnamed.items()
        )

    def __str__(self) -> str:
        """Return the masked form, as repr does."""
        return repr(self)


def reads(parser: Callable[[str], object]) -> Callable[[object], object]:
    """Return a validator that reads text with `parser` and lets through what was read already."""

    def read(value: object) -> object:
        return parser(value) if isinstance(value, str) else value

    return read


def transport_name(variable: str) -> str:
    """Return `bulk` for SMTP_URL_BULK, and for bulk itself."""
    found = _TRANSPORT.fullmatch(variable)
    return (found.group(1) if found else variable).lower()


def variable_of(attribute: str, field: FieldInfo) -> str:
    """Return the variable that sets an attribute (the first, where there are several)."""
    return variables_of(attribute, field)[0]


def variables_of(attribute: str, field: FieldInfo) -> tuple[str, ...]:
    """Return all variables that set an attribute, the strongest first."""
    alias = field.validation_alias
    if isinstance(alias, AliasChoices):
        return tuple(str(choice) for choice in alias.choices)
    return (alias if isinstance(alias, str) else attribute.upper(),)


def about(field: FieldInfo) -> About:
    """Return what the documentation says of a field beside its description."""
    return next((each for each in field.metadata if isinstance(each, About)), About())


def _find_misnamed(
    cls: type[Base], env_file: Path | None, values: Mapping[str, object]
) -> dict[str, str]:
    sources = (EnvSettingsSource(cls), DotEnvSettingsSource(cls, env_file=env_file))
    given = {name for source in sources for name, value in source.env_vars.items() if value}
    known = {
        variable
        for attribute, field in cls.model_fields.items()
        # pydantic reads an attribute's own name as well.
        if attribute not in values and attribute not in given
        for variable in variables_of(attribute, field)
    }
    others = {name for name in given if not _TRANSPORT.fullmatch(name)}
    return misnamed(others - set(cls.model_fields), known)


def _problems(
    cls: type[Base], found: ValidationError, doubted: Mapping[str, str]
) -> tuple[SettingsError, ...]:
    fields = {variable_of(name, field): field for name, field in cls.model_fields.items()}
    fields |= dict(cls.model_fields)
    return tuple(_problem(error, fields, doubted) for error in found.errors(include_url=False))


def _unreadable(env_file: Path | None, error: UnicodeDecodeError | OSError) -> SettingsError:
    name = str(env_file)
    if isinstance(error, UnicodeDecodeError):
        # Its bytes are not repeated: they may be a password's.
        return SettingsError(name, f"is not UTF-8 at byte {error.start}", "save it as UTF-8")
    return SettingsError(name, f"cannot be read: {error.strerror}", "let this user read it")


def _problem(
    error: Mapping[str, Any], fields: Mapping[str, FieldInfo], doubted: Mapping[str, str]
) -> SettingsError:
    place = [str(step) for step in error["loc"]]
    field = fields.get(place[0])
    variable = variable_of(place[0], field) if field is not None else place[0]
    if variable == NAMED_TRANSPORTS and len(place) > 1:
        variable = place[1]
    cause = error.get("ctx", {}).get("error")
    if isinstance(cause, Wrong):
        return SettingsError(cause.setting or variable, cause.problem, cause.mend)
    mend = "" if field is None else _mend(variable, field)
    if error["type"] == "missing":
        meant = doubted.get(variable)
        missing = "is missing" if meant is None else f"is missing, and {meant} is no setting"
        return SettingsError(variable, missing, mend)
    problem = re.sub(r"^(Input|String) ", "", str(error["msg"]))
    value = error["input"]
    if isinstance(value, str | int | float):
        problem += f", not {str(value)[:_SHOWN_VALUE_MAX]!r}"
    return SettingsError(variable, problem, mend)


def _mend(variable: str, field: FieldInfo) -> str:
    alias = field.validation_alias
    if isinstance(alias, AliasChoices):
        # pydantic does not tell which of them was set.
        others = " or ".join(str(choice) for choice in alias.choices[1:])
        return f"it comes from {others} where it is not set itself"
    example = about(field).example
    return f"for example {variable}={example}" if example else ""
