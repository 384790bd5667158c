"""`make chaos-deploy`: replaces one of several replicas every few seconds while a campaign is sent.

Ends with one JSON object; the exit code is 0 if nobody noticed the deploys.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import sys
import tempfile
from pathlib import Path

from tests.chaos.deploy.run import Plan, run


def main() -> int:
    """Read the options, run, print."""
    parser = argparse.ArgumentParser(prog="chaos-deploy", description=__doc__)
    parser.add_argument("--mails", type=int, default=20_000)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--in-flight", type=int, default=20, help="mails of each replica at a time")
    parser.add_argument("--latency-ms", type=float, default=100.0, help="of each 250")
    parser.add_argument("--interval", type=float, default=5.0, help="seconds between deploys")
    parser.add_argument("--seed", type=int, default=1, help="which replica is replaced when")
    parser.add_argument("--least-deploys", type=int, default=10, help="fewer are a failure")
    parser.add_argument(
        "--least-share", type=float, default=0.8, help="of the pace without deploys"
    )
    parser.add_argument(
        "--mails-without", type=int, default=None, help="mails to take that pace (a quarter)"
    )
    options = parser.parse_args()
    if options.mails_without is None:
        options.mails_without = max(200, options.mails // 4)
    plan = Plan(**vars(options))
    with tempfile.TemporaryDirectory(prefix="chaos-deploy-") as folder:
        # Postgres may run as another user, who has to pass.
        Path(folder).chmod(0o711)
        result = asyncio.run(run(plan, Path(folder), _say))
    for fault in result.faults(plan):
        _say(f"chaos-deploy: {fault}")
    sys.stdout.write(json.dumps(dataclasses.asdict(result)) + "\n")
    return 1 if result.faults(plan) else 0


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
