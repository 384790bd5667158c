"""Prints what was measured: tables to read, and one line of JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.queue.contenders import Contender
from bench.queue.latency import Latency
from bench.queue.measure import Cost, Idle, Memory, Results
from bench.queue.targets import Target

_COLUMNS = ("concurrency", "worker", "jobs/s", "ratio", "CPU us/job", "ratio", "Redis us/job")


def show(console: Console, results: Results, targets: Sequence[Target]) -> None:
    """Print the tables; a ratio is ours divided by that worker's."""
    if any(results.values()):
        console.print(_throughput(results))
    table = Table("target", "value", "bound", "", title="Targets")
    for target in targets:
        bound = f"{'>=' if target.at_least else '<='} {target.bound:g}"
        met = "[green]met" if target.met else "[red]missed"
        table.add_row(target.what, f"{target.value:,.2f}", bound, met)
    if targets:
        console.print(table)


def as_json(
    results: Results,
    idle: Idle | None,
    memory: Memory | None,
    latencies: Mapping[str, Latency] | None = None,
) -> str:
    """Return one line: by contender and concurrency, and what else was measured."""
    line: dict[str, Any] = {
        contender.value: {
            str(concurrency): _rounded(dataclasses.asdict(cost))
            for concurrency, cost in costs.items()
        }
        for contender, costs in results.items()
    }
    if idle is not None:
        line["idle"] = _rounded(dataclasses.asdict(idle))
    if memory is not None:
        line["memory"] = dataclasses.asdict(memory)
    if latencies is not None:
        line["latency"] = {
            what: _rounded(dataclasses.asdict(latency)) for what, latency in latencies.items()
        }
    return json.dumps(line)


def _throughput(results: Results) -> Table:
    table = Table(title="No-op jobs, medians; ratio: ours to theirs")
    for column in (*_COLUMNS, "ratio"):
        table.add_column(column, justify="left" if column == "worker" else "right")
    ours = results.get(Contender.OURS, {})
    for concurrency in dict.fromkeys(each for costs in results.values() for each in costs):
        table.add_section()
        for contender, costs in results.items():
            row = _row(ours.get(concurrency), costs[concurrency])
            table.add_row(str(concurrency), contender.value, *row)
    return table


def _row(ours: Cost | None, theirs: Cost) -> list[str]:
    cells: list[str] = []
    for field in dataclasses.fields(Cost):
        value = getattr(theirs, field.name)
        cells.append(f"{value:,.0f}")
        same = ours is None or ours is theirs or not value
        cells.append("" if same else f"{getattr(ours, field.name) / value:.2f}")
    return cells


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 2) for name, value in values.items()}
