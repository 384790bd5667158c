"""docs/guarantees.md promises nothing that no test proves."""

from __future__ import annotations

import re
from pathlib import Path

from shutdown import ExitCode

PAGE = Path(__file__).parents[2] / "docs" / "guarantees.md"
REFERENCE = re.compile(r"\[(test_\w+)\]\(([^)]+)\)")


def rows() -> list[list[str]]:
    """Return the cells of all rows of tables, without heads and rules."""
    tables = [
        [[cell.strip() for cell in line.strip("|").split("|")] for line in lines.splitlines()]
        for lines in re.findall(r"(?:^\|.*\|\n)+", PAGE.read_text(), re.MULTILINE)
    ]
    return [row for head, _, *body in tables for row in body if head[-1] == "Tests"]


def test_every_sentence_names_a_test() -> None:
    assert len(rows()) > 25
    assert [row for row in rows() if not REFERENCE.search(row[-1])] == []


def test_every_test_that_is_named_exists() -> None:
    named = REFERENCE.findall(PAGE.read_text())
    missing = [
        name
        for name, file in named
        if f"def {name}(" not in (PAGE.parent / file).resolve().read_text()
    ]
    assert missing == []


def test_every_exit_code_is_explained() -> None:
    explained = {int(code) for code in re.findall(r"^\| (\d+) \|", PAGE.read_text(), re.MULTILINE)}
    assert explained == {*(int(code) for code in ExitCode), 143}
