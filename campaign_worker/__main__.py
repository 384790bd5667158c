"""`campaign-worker` and `python -m campaign_worker`."""

from __future__ import annotations

import os
import signal
import sys
import traceback


def main() -> None:
    """Run the command line; never returns. What nobody foresaw ends in 70, with its stack."""
    # Before the imports, which take a while: the kernel does not deliver a SIGTERM that has no
    # handler to the first process of a container, and Ctrl-C would show the stack of an import.
    signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))
    may_interrupt = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if may_interrupt:
        signal.signal(signal.SIGINT, lambda number, _: os._exit(128 + number))
    from campaign_worker.cli import app  # noqa: PLC0415 - see above
    from shutdown import ExitCode  # noqa: PLC0415

    if may_interrupt:
        # From here on a command may have something to take back.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        app(prog_name="campaign-worker")
    except Exception:  # noqa: BLE001 -- the last frame: an exit code is all that is left to choose
        traceback.print_exc()
        sys.exit(ExitCode.INTERNAL_ERROR)


if __name__ == "__main__":
    main()
