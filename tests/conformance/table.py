"""Collects what the tests prove, in whichever process they run, and writes the tables of it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import pytest

from tests.conformance import node_groups
from tests.conformance.features import MAJORS, Feature
from tests.fixtures import node_packages

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"
#: Around a table that `make conformance` writes; "features" or "groups".
BEGIN = "<!-- {} by make conformance -->"
END = "<!-- end of {} -->"
#: The property of a test's report that tells what it proves: [feature, major, case].
PROVES = "conformance"
#: Where pytest's cache has the proofs of the last run.
KEPT = "conformance/proofs"

Proofs = Mapping[tuple[str, int], set[str]]


class TableWriter:
    """Listens to a run of all conformance tests and writes the page at its end, or says why not.

    With xdist it belongs to the process that the reports come to. With `--last-failed` what was
    proven by the run before counts as well.
    """

    def __init__(self, features: Mapping[str, Feature], page: Path, config: pytest.Config) -> None:
        self._features = features
        self._page = page
        self._cache = config.cache
        self._proven: dict[tuple[str, int], set[str]] = defaultdict(set)
        self._wrong: list[str] = []
        if self._cache is not None and config.getoption("lf"):
            for proof in self._cache.get(KEPT, []):
                self._note(*proof)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not report.passed:
            self._wrong.append(f"{report.nodeid} {report.outcome}")
        elif report.when == "call":
            for kind, value in report.user_properties:
                if kind == PROVES:
                    self._note(*cast("tuple[str, int, str]", value))

    def _note(self, feature: str, major: int, case: str) -> None:
        self._proven[feature, major].add(case)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._cache is not None:
            proofs = [(*of, case) for of, cases in self._proven.items() for case in sorted(cases)]
            self._cache.set(KEPT, proofs)
        wrong = self._wrong or unproven(self._features, self._proven)
        if wrong:
            terminalreporter.write_line(f"no table: {'; '.join(wrong)}", red=True)
            return
        versions = [node_packages.install(major)[1] for major in MAJORS]
        said = f"Last run with bullmq {', '.join(versions[:-1])} and {versions[-1]}."
        replace(self._page, "features", f"{said}\n\n{rendered(self._features, self._proven)}")
        replace(self._page, "groups", node_groups.rendered())
        terminalreporter.write_line(f"wrote the tables in {self._page}")


def unproven(features: Mapping[str, Feature], proven: Proofs) -> list[str]:
    """Return what would stand in the table without a test that has passed."""
    return [
        f"nothing proves '{name}' with {major}.x"
        for name, feature in features.items()
        for major in MAJORS
        if feature.is_to_prove(major) and not proven.get((name, major))
    ]


def rendered(features: Mapping[str, Feature], proven: Proofs) -> str:
    """Return the table as Markdown."""
    lines = [
        f"| Feature | Cases | {' | '.join(f'{major}.x' for major in MAJORS)} |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, feature in features.items():
        cases = set().union(*(proven.get((name, major), set()) for major in MAJORS))
        cells = [feature.cell(major) for major in MAJORS]
        lines.append(f"| {name} | {len(cases)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def replace(page: Path, name: str, table: str) -> None:
    """Put a table between its two marks."""
    begin, end = BEGIN.format(name), END.format(name)
    before, rest = page.read_text().split(begin)
    _, after = rest.split(end)
    page.write_text(f"{before}{begin}\n\n{table}\n\n{end}{after}")


def committed(name: str, page: Path = PAGE) -> dict[str, list[str]]:
    """Return the rows of a table as it stands: by their first cell, the others."""
    table = page.read_text().split(BEGIN.format(name))[1].split(END.format(name))[0]
    lines = re.findall(r"^\|.*\|$", table, re.MULTILINE)
    rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in lines]
    return {first: cells for first, *cells in rows[2:]}
