"""Our tracker beside Node ones (fastify and pg) that insert one row per request.

All check a signed token, keep user agent and hashed client, and answer after the commit, on the
same Postgres one after the other, in turns. node is written the usual way: a query with values, a
table with foreign keys; node_lean has what can be left out left out: the statement is prepared, and
no key is checked. Ours also tells machines from people, keeps the first open and click of each mail
and the campaign's counts, and limits what one client can do; the others do not.

First every connection is kept busy: requests/s, and CPU per request of tracker and Postgres
together. Then half of that pace, asked whether answers come or not: p50 and p99. Ours once more
with Postgres stopped at the start. After each load there must be one row for each answer, or the
run fails. The last line of stdout is one JSON object; us are microseconds of CPU.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.track import targets
from bench.track.contenders import Contender, install_node
from bench.track.measure import Cost, Plan, RunFailed, measure
from bench.track.stand import stand
from tests.fixtures import node_packages


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(
        prog="make bench-track",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: make bench-track ARGS='--runs 1 --seconds 3 --trackers ours'",
    )
    parser.add_argument("--runs", type=int, default=3, help="of each, in turns; medians count")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each load")
    parser.add_argument("--warm", type=float, default=2.0, help="seconds before anything counts")
    parser.add_argument("--connections", type=int, default=64, help="kept open to the tracker")
    parser.add_argument("--messages", type=int, default=100_000, help="mails that are asked for")
    parser.add_argument("--seed", type=int, default=1, help="order of opens and clicks")
    parser.add_argument(
        "--trackers", type=_contenders, default=list(Contender), metavar="ours,node,node_lean"
    )
    parser.add_argument("--json", action="store_true", help="only the JSON line on stdout")
    return parser.parse_args(arguments)


async def run(options: argparse.Namespace, folder: Path) -> dict[Contender, Cost]:
    """Start the servers and measure."""
    errors = Console(stderr=True, highlight=False)
    node = ""
    if set(options.trackers) - {Contender.OURS}:
        if reason := node_packages.why_not():
            raise SystemExit(f"{reason}; without it: --trackers ours")
        # npm may have to fetch it first: not within a run.
        node = f", {await asyncio.to_thread(install_node)}"
    load = ", ".join(f"{each:.2f}" for each in os.getloadavg())
    python = ".".join(map(str, sys.version_info[:3]))
    errors.print(f"Python {python}{node}; {os.cpu_count()} CPUs, load {load}")
    plan = Plan(
        messages=options.messages,
        connections=options.connections,
        warm_seconds=options.warm,
        seconds=options.seconds,
        runs=options.runs,
        seed=options.seed,
    )
    async with stand(folder) as servers:
        return await measure(servers, options.trackers, plan, folder, errors.print)


def main() -> int:
    """Measure what was asked for and print it; 1 when a run fails."""
    options = parse()
    with tempfile.TemporaryDirectory(prefix="bench-track-") as name:
        # Postgres may run as another user, who has to pass.
        Path(name).chmod(0o711)
        try:
            costs = asyncio.run(run(options, Path(name)))
        except RunFailed as error:
            sys.stderr.write(f"bench-track: {error}\n")
            return 1
    if not options.json:
        _show(Console(highlight=False), costs)
    print(json.dumps({contender.value: _figures(cost) for contender, cost in costs.items()}))
    return 0


def _figures(cost: Cost) -> dict[str, float]:
    found = dataclasses.asdict(cost)
    return {name: round(value, 2) for name, value in found.items() if value is not None}


def _show(console: Console, costs: Mapping[Contender, Cost]) -> None:
    table = Table(title="Opens and clicks, medians")
    for column in ("tracker", "requests/s", "CPU us", "p50 ms", "p99 ms"):
        table.add_column(column, justify="left" if column == "tracker" else "right")
    for contender, cost in costs.items():
        pace, cpu = f"{cost.requests_per_s:,.0f}", f"{cost.cpu_us_per_request:,.0f}"
        table.add_row(contender, pace, cpu, f"{cost.p50_ms:.1f}", f"{cost.p99_ms:.1f}")
    console.print(table)
    table = Table("target", "value", "bound", "", title="Targets")
    for target in targets.of(costs):
        bound = f"{'>=' if target.at_least else '<='} {target.bound:g}"
        met = "[green]met" if target.met else "[red]missed"
        table.add_row(target.what, f"{target.value:,.2f}", bound, met)
    console.print(table)


def _contenders(text: str) -> list[Contender]:
    return [Contender(part) for part in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
