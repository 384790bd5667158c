"""The tables in docs/conformance.md have the features, groups and cases that the tests have."""

from __future__ import annotations

import ast
from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from tests.conformance.feature_list import FEATURES
from tests.conformance.features import MAJORS, Difference, Feature, Lacking, offered, owner_of
from tests.conformance.node_groups import NODE_GROUPS, functions
from tests.conformance.scenarios import SCENARIOS
from tests.conformance.table import BEGIN, END, committed, rendered, replace, unproven

HERE = Path(__file__).parent
TOLD = Difference(("/a/*",), "because")
SAMPLE = {
    "plain": Feature(("a", "a-*"), differs={5: TOLD}),
    "late": Feature(("b*",), since=5, lacking=(Lacking("b-new", 6, "`new`"),)),
    "own": Feature(alike=True),
}


def marked() -> Counter[str]:
    """Count the tests by the feature that they are a case of."""
    names: Counter[str] = Counter()
    for path in HERE.glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.AsyncFunctionDef):
                names.update(name for each in node.decorator_list if (name := _feature(each)))
    return names


def _feature(decorator: ast.expr) -> str:
    match decorator:
        case ast.Call(func=ast.Attribute(attr="feature"), args=[ast.Constant(value=str(name))]):
            return name
        case _:
            return ""


def test_the_page_has_the_features_and_cases_of_the_tests() -> None:
    tests = marked()
    scenarios = Counter(owner_of(name, FEATURES) for name in SCENARIOS)
    expected = {
        name: [str(tests[name] + scenarios[name]), *(feature.cell(major) for major in MAJORS)]
        for name, feature in FEATURES.items()
    }
    assert committed("features") == expected, "run `make conformance`"


def test_the_page_has_the_groups_of_node_and_no_more_cases_than_there_are() -> None:
    page = committed("groups")
    assert list(page) == list(NODE_GROUPS), "run `make conformance`"
    for name, group in NODE_GROUPS.items():
        count, *said = page[name]
        actual, *expected = [cell.strip() for cell in group.row(name).strip("|").split("|")[1:]]
        assert int(count) <= int(actual), f"{name}: run `make conformance`"
        assert said == expected, f"{name}: run `make conformance`"


def test_no_pattern_of_a_group_is_without_a_test() -> None:
    for group in NODE_GROUPS.values():
        for known, patterns in ((functions(), group.tests), (SCENARIOS, group.scenarios)):
            idle = [one for one in patterns if not any(fnmatchcase(each, one) for each in known)]
            assert idle == []


def test_no_feature_is_without_a_case_and_no_case_without_a_feature() -> None:
    tests = marked()
    scenarios = {owner_of(name, FEATURES) for name in SCENARIOS}
    assert set(FEATURES) == scenarios | set(tests)
    used = [pattern for feature in FEATURES.values() for pattern in feature.scenarios]
    alone = {pattern: Feature((pattern,)) for pattern in used}
    assert [name for name, one in alone.items() if not any(map(one.owns, SCENARIOS))] == []


def test_a_scenario_of_two_features_or_of_none_is_refused() -> None:
    for features in ({}, {"one": Feature(("a*",)), "other": Feature(("*b",))}):
        with pytest.raises(AssertionError, match="ab is a case of"):
            owner_of("ab", features)


def test_what_a_version_does_not_offer_is_not_run_and_said() -> None:
    names = ["a", "b-old", "b-new"]
    assert offered(names, 4, SAMPLE) == {"a": "plain"}
    assert offered(names, 5, SAMPLE) == {"a": "plain", "b-old": "late"}
    assert offered(names, 6, SAMPLE) == {"a": "plain", "b-old": "late", "b-new": "late"}
    cells = {name: [feature.cell(major) for major in MAJORS] for name, feature in SAMPLE.items()}
    assert cells == {
        "plain": ["same", "different: because", "same"],
        "late": ["not offered", "same; `new` not offered", "same"],
        "own": ["as 6.x", "as 6.x", "same"],
    }


def test_what_nothing_proves_is_named_and_the_page_keeps_the_rest(tmp_path: Path) -> None:
    proven = {("plain", major): {"a", f"a-{major}"} for major in MAJORS}
    proven |= {("late", 6): {"b-new"}, ("own", 6): {"test"}}
    assert unproven(SAMPLE, proven) == ["nothing proves 'late' with 5.x"]
    page = tmp_path / "page.md"
    begin, end = BEGIN.format("features"), END.format("features")
    page.write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    replace(page, "features", rendered(SAMPLE, proven))
    assert committed("features", page) == {
        "plain": ["4", "same", "different: because", "same"],
        "late": ["1", "not offered", "same; `new` not offered", "same"],
        "own": ["1", "as 6.x", "as 6.x", "same"],
    }
    assert page.read_text().startswith("before\n")
    assert page.read_text().endswith("after\n")


def test_a_difference_explains_its_places_only() -> None:
    assert TOLD.explains("/a/1/content/atm: '1' / None")
    assert not TOLD.explains("/b/1/content/atm: '1' / None")
