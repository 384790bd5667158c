"""The house keeps its measures: short modules, short functions, no circles of imports."""

from __future__ import annotations

import ast
import os
import re
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("campaign_worker", "shutdown", "metrics")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
MODULE_LINES_MAX = 300
FUNCTION_LINES_MAX = 50
DOCSTRING_LINES_MAX = 6
NAMES = [str(path.relative_to(ROOT)) for path in MODULES]
# Its opening drawing of the tree is what the module is for.
DRAWN = {"campaign_worker/errors/__init__.py"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(tree: ast.Module) -> list[Function]:
    return [node for node in ast.walk(tree) if isinstance(node, Function)]


@pytest.mark.parametrize("name", NAMES)
def test_a_module_is_short_and_says_what_it_owns(name: str) -> None:
    text = (ROOT / name).read_text()
    lines = len(text.splitlines())
    assert lines <= MODULE_LINES_MAX
    if not text.strip():
        return
    said = len((ast.get_docstring(ast.parse(text)) or "").splitlines())
    assert said >= 1
    assert name in DRAWN or said <= DOCSTRING_LINES_MAX


@pytest.mark.parametrize("name", NAMES)
def test_its_functions_are_short_and_their_returns_annotated(name: str) -> None:
    for function in functions(ast.parse((ROOT / name).read_text())):
        body = function.body
        first = body[0].end_lineno if ast.get_docstring(function) else function.lineno
        lines = (function.end_lineno or 0) - (first or 0)
        assert lines <= FUNCTION_LINES_MAX, f"{function.name} has {lines} lines"
        assert function.returns is not None, function.name


def test_nothing_imports_in_a_circle() -> None:
    graph = grimp.build_graph(*PACKAGES, cache_dir=None, exclude_type_checking_imports=True)
    imports = {each: graph.find_modules_directly_imported_by(each) for each in graph.modules}
    order = list(TopologicalSorter(imports).static_order())
    assert len(order) >= len(MODULES)


def test_nothing_speaks_of_the_machine_that_it_was_written_on() -> None:
    home = os.sep + "work" + os.sep
    files = [*MODULES, *ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "Makefile"]
    assert [path.name for path in files if home in path.read_text()] == []


def test_the_page_for_whoever_changes_this_names_each_part_in_the_order_of_imports() -> None:
    page = (ROOT / "docs" / "internals.md").read_text()
    named = [
        name.strip("/`").removesuffix(".py")
        for row in re.findall(
            r"^\| (`[^|]+) \|", page.partition("\n## A mail's way")[0], re.MULTILINE
        )
        for name in row.split(", ")
    ]
    folder = ROOT / "campaign_worker"
    there = {path.stem for path in folder.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert sorted(named) == sorted(there - {"__init__", "__pycache__"} | {"shutdown", "metrics"})
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = [
        re.findall(r"campaign_worker\.(\w+)", each) for each in contracts["contracts"][0]["layers"]
    ]
    place = {name: index for index, layer in enumerate(layers) for name in layer}
    order = [place.get(name, len(layers)) for name in named if name != "__main__"]
    assert order == sorted(order)
