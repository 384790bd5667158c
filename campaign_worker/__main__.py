"""`campaign-worker` and `python -m campaign_worker`."""

from __future__ import annotations

import sys
import traceback

from campaign_worker.cli import app
from shutdown import ExitCode


def main() -> None:
    """Run the command line; never returns. What nobody foresaw ends in 70, with its stack."""
    try:
        app(prog_name="campaign-worker")
    except Exception:  # noqa: BLE001 -- the last frame: an exit code is all that is left to choose
        traceback.print_exc()
        sys.exit(ExitCode.INTERNAL_ERROR)


if __name__ == "__main__":
    main()
