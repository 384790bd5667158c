"""Times of a stop: an idle worker's exit, and the pick-up of a job that was handed back.

The last line of stdout is one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.stop.measure import hand_back_seconds, idle_exit_seconds
from campaign_worker.embedded.stack import EmbeddedStack

#: Seconds that 95 of 100 may take at most.
TARGETS = {"idle_exit": 0.5, "hand_back": 0.1}
TEXTS = {
    "idle_exit": "an idle worker: SIGTERM to the end of its process",
    "hand_back": "a job: hand-back to its start by an idle rival",
}
WORST_OF_100 = 0.95


async def run(runs: int, folder: Path) -> dict[str, list[float]]:
    """Measure both on one set of servers."""
    async with EmbeddedStack(folder / "stack") as stack:
        return {
            "idle_exit": await idle_exit_seconds(stack, folder, runs),
            "hand_back": await hand_back_seconds(stack.redis_url, runs),
        }


def p95(values: Sequence[float]) -> float:
    """Return the value that 95 of 100 do not exceed."""
    return sorted(values)[math.ceil(WORST_OF_100 * len(values)) - 1]


def main() -> int:
    """Read the options, measure, print; 1 when a target is missed."""
    parser = argparse.ArgumentParser(prog="make bench-stop", description=__doc__)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--json", action="store_true", help="only the JSON line")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-stop-") as folder:
        # Postgres may run as another user, who has to pass.
        Path(folder).chmod(0o711)
        seconds = asyncio.run(run(options.runs, Path(folder)))
    table = Table("what", "median", "p95", "target", "", title=f"{options.runs} runs of each")
    for name, values in seconds.items():
        met = "[green]met" if p95(values) <= TARGETS[name] else "[red]missed"
        times = (statistics.median(values), p95(values), TARGETS[name])
        table.add_row(TEXTS[name], *(f"{1000 * time:.0f} ms" for time in times), met)
    if not options.json:
        Console().print(table)
    figures = {f"{name}_p95_s": round(p95(values), 4) for name, values in seconds.items()}
    medians = {f"{name}_median_s": round(statistics.median(v), 4) for name, v in seconds.items()}
    print(json.dumps({"runs": options.runs, **figures, **medians}))
    return int(any(p95(values) > TARGETS[name] for name, values in seconds.items()))


if __name__ == "__main__":
    sys.exit(main())
