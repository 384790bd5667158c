"""What docs say of contracts is what the classes say."""

from __future__ import annotations

import json
from pathlib import Path

from campaign_worker.contract.document import PAGE_FILE, SCHEMA_FILE, reference, schema
from campaign_worker.contract.statements import SPECS

ROOT = Path(__file__).parents[3]


def test_the_schema_for_editors_is_in_step_with_the_classes() -> None:
    assert (ROOT / SCHEMA_FILE).read_text() == schema(), "run: make docs"


def test_the_reference_is_in_step_with_the_classes() -> None:
    assert (ROOT / PAGE_FILE).read_text().endswith(reference()), "run: make docs"


def test_the_schema_refuses_unknown_keys_everywhere() -> None:
    parts = json.loads(schema())["$defs"]
    assert [
        name
        for name, part in parts.items()
        if part["type"] == "object" and part.get("additionalProperties") is not False
    ] == []


def test_every_statement_is_in_the_reference() -> None:
    page = reference()
    assert [spec.place for spec in SPECS if f"### `[{spec.place}]`" not in page] == []
