"""Every key of a TOML text is found on its line."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaign_worker.contract.toml_lines import Path, TomlLines

TEXT = '''# a comment = not a key
version = 1

[queues."follow-up"] # = [
concurrency = 5
limiter = { max = 3, "duration_ms" = 1000 }

[jobs.send]
kind = 'send'
a.b = [
  "x", # y = 1
  { c = 1 },
]

[load.recipients]
query = """
SELECT "id", 'a = ''b'
FROM t -- [x]
"""
date = 2020-01-01 10:00:00
last = 5

[[many]]
one = 1
[[many]]
[many.sub]
two = 2
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("version",), 2),
        (("queues",), 4),
        (("queues", "follow-up"), 4),
        (("queues", "follow-up", "concurrency"), 5),
        (("queues", "follow-up", "limiter", "duration_ms"), 6),
        (("jobs", "send", "kind"), 9),
        (("jobs", "send", "a", "b"), 10),
        (("jobs", "send", "a", "b", 0), 11),
        (("jobs", "send", "a", "b", 1, "c"), 12),
        (("load", "recipients", "query"), 16),
        (("load", "recipients", "date"), 20),
        (("load", "recipients", "last"), 21),
        (("many", 0, "one"), 24),
        (("many", 1, "sub", "two"), 27),
        (("jobs", "send", "missing"), 8),
        (("nothing", "of", "this"), 1),
    ],
)
def test_a_key_is_found_on_its_line_and_a_missing_one_on_its_table_s(path: Path, line: int) -> None:
    assert TomlLines(TEXT).line(path) == line


def test_a_place_within_a_statement_has_its_own_line() -> None:
    query = tomllib.loads(TEXT)["load"]["recipients"]["query"]
    lines = TomlLines(TEXT)
    path = ("load", "recipients", "query")
    assert lines.line_within(path, query, query.index("SELECT")) == 17
    assert lines.line_within(path, query, query.index("FROM")) == 18
    assert lines.line_within(path, query, 10_000) == 19
    assert lines.line_within(path, "not there\n", 0) == 16


KEY = st.text(st.sampled_from("ab-_ .\"'=[]#é\\"), max_size=6)
VALUE = st.recursive(
    st.text(st.sampled_from("a\"'=[]{}#,\n\\"), max_size=12) | st.integers() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEY, inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(st.tuples(KEY, VALUE), min_size=1, max_size=6, unique_by=lambda one: one[0]))
def test_whatever_values_stand_between_them_keys_are_found(pairs: list[tuple[str, Any]]) -> None:
    rows: list[str] = []
    at: dict[str, int] = {}
    for key, value in pairs:
        at[key] = len(rows) + 1
        rows += f"{written(key)} = {written(value)}".split("\n")
    text = "\n".join(rows)
    tomllib.loads(text)
    lines = TomlLines(text)
    assert {key: lines.line((key,)) for key, _ in pairs} == at


def written(value: Any) -> str:
    if isinstance(value, dict):
        inside = ", ".join(f"{written(key)} = {written(one)}" for key, one in value.items())
        return "{ " + inside + " }"
    if isinstance(value, list):
        return "[" + ",\n ".join(written(one) for one in value) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
