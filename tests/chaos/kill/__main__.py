"""`make chaos-kill`: what is lost, doubled or miscounted when workers are killed at random.

Ends with one JSON object; the exit code is 0 if it shows what the policy promises.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
from pathlib import Path

from tests.chaos.kill.run import FAULTS, run
from tests.chaos.kill.world import Plan


def main() -> int:
    """Read the options, run, print."""
    parser = argparse.ArgumentParser(prog="chaos-kill", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mails", type=int, default=500, help="at least; there is always work")
    parser.add_argument("--kills", type=int, default=100, help="or faults, of other families")
    parser.add_argument("--policy", choices=["hold", "resend"], default="hold")
    parser.add_argument("--fault", choices=sorted(FAULTS), default="random")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--latency-ms", type=float, default=20.0, help="of each 250")
    parser.add_argument("--keep", type=Path, help="keep the workers' logs here")
    options = parser.parse_args()
    # aiosmtpd logs whole dialogues.
    logging.getLogger("mail").setLevel(logging.CRITICAL)
    plan = Plan(
        seed=options.seed,
        mails=options.mails,
        policy=options.policy,
        workers=options.workers,
        latency_ms=options.latency_ms,
        appendonly=options.fault != "redis-kill-empty",
    )
    with tempfile.TemporaryDirectory(prefix="chaos-") as temporary:
        folder = options.keep or Path(temporary)
        report = asyncio.run(run(plan, options.fault, options.kills, folder))
    sys.stdout.write(f"{report.to_json()}\n")
    return 0 if report.good else 1


if __name__ == "__main__":
    sys.exit(main())
