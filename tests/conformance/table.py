"""Collects what the tests prove, in whichever process they run, and writes the table of it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.conformance.features import MAJORS, Feature
from tests.fixtures import node_packages

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"
BEGIN = "<!-- Begin of the table that `make conformance` writes. -->"
END = "<!-- End of the table that `make conformance` writes. -->"
#: The property of a test's report that tells what it proves: [feature, major, case].
PROVES = "conformance"

Proofs = Mapping[tuple[str, int], set[str]]


class TableWriter:
    """Listens to a run of all conformance tests and writes the page at its end, or says why not.

    With xdist it belongs to the process that the reports come to.
    """

    def __init__(self, features: Mapping[str, Feature], page: Path) -> None:
        self._features = features
        self._page = page
        self._proven: dict[tuple[str, int], set[str]] = defaultdict(set)
        self._wrong: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not report.passed:
            self._wrong.append(f"{report.nodeid} {report.outcome}")
        elif report.when == "call":
            for kind, value in report.user_properties:
                if kind == PROVES:
                    feature, major, case = value  # type: ignore[misc]  # typed as object
                    self._proven[feature, major].add(case)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        wrong = self._wrong or unproven(self._features, self._proven)
        if wrong:
            terminalreporter.write_line(f"no table: {'; '.join(wrong)}", red=True)
            return
        versions = [node_packages.install(major)[1] for major in MAJORS]
        said = f"Last run with bullmq {', '.join(versions[:-1])} and {versions[-1]}."
        replace(self._page, f"{said}\n\n{rendered(self._features, self._proven)}")
        terminalreporter.write_line(f"wrote the table in {self._page}")


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


def replace(page: Path, table: str) -> None:
    """Put the table between its two marks."""
    before, rest = page.read_text().split(BEGIN)
    _, after = rest.split(END)
    page.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{after}")


def committed(page: Path = PAGE) -> dict[str, list[str]]:
    """Return the rows of the page as it stands: by feature, its other cells."""
    table = page.read_text().split(BEGIN)[1].split(END)[0]
    rows = [line.strip("| ").split(" | ") for line in re.findall(r"^\|.*\|$", table, re.MULTILINE)]
    return {name: cells for name, *cells in rows[2:]}
