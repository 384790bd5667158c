"""The result as people and programs read it: a table, or one JSON object. stdout only."""

from __future__ import annotations

import dataclasses
import json
from typing import TextIO

from rich.console import Console
from rich.table import Table

from campaign_worker.demo.reading import NAMES
from campaign_worker.demo.verdict import Report


def as_json(report: Report) -> str:
    """Return one line: every number of the report, `adds_up`, and `problems` as sentences."""
    return json.dumps({**dataclasses.asdict(report), "adds_up": report.adds_up})


def print_table(report: Report, stream: TextIO) -> None:
    """Write the table, and below it what does not add up."""
    console = Console(file=stream, markup=False, highlight=False, soft_wrap=True)
    table = Table(show_header=False, title="The campaign, counted", title_justify="left")
    table.add_column()
    table.add_column(justify="right")
    for name, value in _lines(report):
        table.add_row(name, value)
    console.print(table)
    if report.adds_up:
        console.print("Every number adds up.")
    for problem in report.problems:
        console.print(f"Does not add up: {problem}.")


def _read(report: Report) -> list[tuple[str, str]]:
    """Give the counts, each with what it must be where that is another number."""
    lines = []
    for name, words in NAMES.items():
        counted, due = getattr(report, name), getattr(report.read, name)
        lines.append((words, f"{counted}" if counted == due else f"{counted} instead of {due}"))
    return lines


def _lines(report: Report) -> list[tuple[str, str]]:
    lines = [
        ("jobs enqueued", str(report.enqueued)),
        ("follow-ups sent", str(report.follow_ups)),
        ("mails accepted by the SMTP server", str(report.accepted)),
        ("sent in Postgres", str(report.sent)),
        ("lost", str(report.lost)),
        ("duplicated", str(report.duplicated)),
        ("miscounted", str(report.miscounted)),
        *_read(report),
    ]
    if report.redeployed:
        lines += [
            ("jobs handed over by the redeploy", str(report.handed_over)),
            ("  finished by the old worker", str(report.finished_in_drain)),
            ("  handed back, finished by the new one", str(report.handed_back)),
            ("seconds from SIGTERM to exit", f"{report.drain_seconds:g}"),
        ]
    return [*lines, ("seconds", f"{report.seconds:g}")]
