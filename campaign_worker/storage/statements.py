"""Named SQL: each statement is a file in sql/, read once, with the schema's quoted name filled in.

A statement is known by its file's name without the ending. Nothing else is ever interpolated.
"""

from __future__ import annotations

import re
from importlib import resources

from campaign_worker.errors import SettingsError

_IDENTIFIER = re.compile(r"[a-z_][a-z0-9_]{0,62}")


def quoted_schema(schema: str) -> str:
    """Return the schema as a quoted identifier.

    Raises SettingsError unless it is a plain lower-case identifier of at most 63 characters.
    """
    if not _IDENTIFIER.fullmatch(schema):
        raise SettingsError(
            "DATABASE_SCHEMA", f"{schema!r} is not a plain identifier", "use a-z, 0-9 and _"
        )
    return f'"{schema}"'


def load_statements(schema: str) -> dict[str, str]:
    """Read every statement: name to SQL for this schema."""
    name = quoted_schema(schema)
    folder = resources.files("campaign_worker.storage") / "sql"
    return {
        entry.name.removesuffix(".sql"): entry.read_text().replace("{schema}", name)
        for entry in folder.iterdir()
        if entry.name.endswith(".sql")
    }
