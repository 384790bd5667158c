"""Named parameters become numbers where SQL has a parameter, and nowhere else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaign_worker.contract.named import BadStatement, numbered

TYPES = {"ids": "uuid[]", "limit": "integer"}


@pytest.mark.parametrize(
    ("source", "sql"),
    [
        ("WHERE id = ANY(:ids)", "WHERE id = ANY($1::uuid[])"),
        ("a(:limit, :ids, :limit)", "a($1::integer, $2::uuid[], $1::integer)"),
        ("x::text, ':ids', \":ids\"", "x::text, ':ids', \":ids\""),
        ("'it''s :ids' :limit", "'it''s :ids' $1::integer"),
        (r"E'\':ids' :limit", r"E'\':ids' $1::integer"),
        ("-- :ids\n:limit", "-- :ids\n$1::integer"),
        ("/* /* */ :ids */ :limit", "/* /* */ :ids */ $1::integer"),
        ("$$:ids$$ $a$ :ids $b$ $a$ :limit", "$$:ids$$ $a$ :ids $b$ $a$ $1::integer"),
        ("f(a => 1, b := :limit)", "f(a => 1, b := $1::integer)"),
        ("a[1 : 2]", "a[1 : 2]"),
        ("never ended ' :ids", "never ended ' $1::uuid[]"),
        ("/* never ended :ids", "/* never ended :ids"),
    ],
)
def test_parameters_are_found_and_nothing_else(source: str, sql: str) -> None:
    assert numbered(source, TYPES).sql == sql


@pytest.mark.parametrize(("source", "word"), [("SELECT :id", ":id is no"), ("SELECT $1", "names")])
def test_what_is_no_parameter_is_refused_with_its_place(source: str, word: str) -> None:
    with pytest.raises(BadStatement) as caught:
        numbered(source, TYPES)
    assert word in caught.value.problem
    assert caught.value.offset == 7


def test_a_place_in_the_statement_is_found_in_the_source() -> None:
    source = "SELECT x FROM t WHERE id = ANY(:ids) AND y = :limit AND z"
    made = numbered(source, TYPES)
    for word in ("x", "ANY", "AND y", "AND z"):
        assert made.source_offset(made.sql.index(word)) == source.index(word)


@given(st.text(st.sampled_from("ab:'\"$-/*\nE ids"), max_size=40))
def test_any_text_is_read_to_its_end_or_refused(source: str) -> None:
    refused_at, made = None, None
    try:
        made = numbered(source, TYPES)
    except BadStatement as error:
        refused_at = error.offset
    assert (refused_at is None) == (made is not None)
    assert refused_at is None or 0 <= refused_at < len(source)
    assert made is None or made.sql.count("$1::uuid[]") <= source.count(":ids")
