"""`make chaos-kill`: what is lost, doubled or miscounted when workers are killed at random.

Ends with one JSON object; the exit code is 0 if it shows what the policy promises. Progress goes to
stderr. A kill takes about a third of a second, at random moments as well as at named points.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import logging
import sys
import tempfile
from pathlib import Path

from tests.chaos.kill.report import HOLD, POLICIES
from tests.chaos.kill.run import FAMILIES, run
from tests.chaos.kill.world import Plan

_FAMILIES = """
--fault:
  random            kill at random moments, also while workers start
  kill-everywhere   kill --kills times at each of the points that follow
  kill-POINT        the same at one of them
  cut-everywhere    cut the connection --kills times before and after each statement
  cut-POINT         the same at one of them
  redis-kill        kill Redis; it keeps every write
  redis-kill-empty  kill Redis; it comes back empty
  redis-flush       FLUSHALL
  postgres-kill     stop Postgres as a crash does, and start it at once
  postgres-away     the same, and it is away for longer than a lease
  clocks            two workers whose clocks are 120 s fast and slow, delayed jobs, kills at random
  rivals            locks deleted and stolen, second jobs for one mail

--policy:
  hold, resend      AMBIGUOUS_SEND, over SMTP
  idempotent        over HTTP, to a provider with idempotency keys, which loses answers too

Points: {points}
"""


def main() -> int:
    """Read the options, run, print."""
    points = [name.removeprefix("kill-") for name in FAMILIES if name.startswith("kill-")]
    epilog = _FAMILIES.format(points=", ".join(one for one in points if one != "everywhere"))
    parser = argparse.ArgumentParser(
        prog="chaos-kill",
        description=__doc__,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mails", type=int, default=500, help="at least; there is always work")
    parser.add_argument("--kills", type=int, default=100, help="or faults, of other families")
    parser.add_argument("--policy", choices=POLICIES, default=HOLD)
    parser.add_argument("--fault", choices=FAMILIES, default="random", metavar="FAMILY")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--latency-ms", type=float, default=20.0, help="of each 250")
    parser.add_argument("--keep", type=Path, help="keep the workers' logs here")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument("--row", action="store_true", help="on stderr, for docs/guarantees.md")
    options = parser.parse_args()
    # aiosmtpd logs whole dialogues.
    logging.getLogger("mail").setLevel(logging.CRITICAL)
    plan = Plan(
        seed=options.seed,
        mails=options.mails,
        policy=options.policy,
        workers=options.workers,
        latency_ms=options.latency_ms,
    )
    with tempfile.TemporaryDirectory(prefix="chaos-") as temporary:
        folder = options.keep or Path(temporary)
        tell = None if options.quiet else _say
        report = asyncio.run(run(plan, options.fault, options.kills, folder, tell=tell))
    if options.row:
        told = [one for one in sys.argv[1:] if one not in ("--row", "--quiet")]
        sys.stderr.write(f"{report.to_row(' '.join(told), dt.datetime.now(dt.UTC).date())}\n")
    sys.stdout.write(f"{report.to_json()}\n")
    return 0 if report.good else 1


def _say(text: str) -> None:
    sys.stderr.write(f"chaos-kill: {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
