"""`make chaos-track`: opens and clicks under two trackers, Postgres stopped and trackers killed.

People, machines, loops, forgeries and everything twice, in an order that the seed fixes. A tracker
is killed while Postgres is away, others at random moments, every other one of them while both
stores are frozen: what it answered before anything was secured is lost with it. Then each row is
held against the requests: what was answered must be there once, in the right class; what was not
answered may be there once; nothing else may be. Ends with one JSON object; the exit code is 0 if
all counts are those that follow from the requests.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import gc
import json
import sys
import tempfile
from pathlib import Path

import uvloop

from tests.chaos.track.fleet import Plan
from tests.chaos.track.run import run


def main() -> int:
    """Read the options, run, print."""
    parser = argparse.ArgumentParser(
        prog="make chaos-track",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: make chaos-track ARGS='--requests 10000 --kills 3 --seed 7'",
    )
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--pace", type=float, default=1200.0, help="requests/s, at most")
    parser.add_argument(
        "--stop-seconds", type=float, default=10.0, help="how long Postgres is away"
    )
    parser.add_argument(
        "--kills", type=int, default=20, help="trackers killed beside the one in the outage"
    )
    parser.add_argument("--seed", type=int, default=1, help="who asks for what, and who is killed")
    plan = Plan(**vars(parser.parse_args()))
    # The sender keeps a record of all that it did; looking through it would count as waiting.
    gc.disable()
    with tempfile.TemporaryDirectory(prefix="chaos-track-") as name:
        # Postgres may run as another user, who has to pass.
        Path(name).chmod(0o711)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            result = runner.run(run(plan, Path(name), _say))
    for fault in result.faults():
        _say(f"chaos-track: {fault}")
    sys.stdout.write(json.dumps(dataclasses.asdict(result)) + "\n")
    return 1 if result.faults() else 0


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
