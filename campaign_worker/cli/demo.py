"""`campaign-worker demo`: a campaign with a redeploy in its middle, on this machine."""

from __future__ import annotations

import importlib.util
from typing import Annotated

import typer

from campaign_worker.cli.console import FAILED, exits, stderr

NAME = "demo"
# What only the extra brings; the servers' programs may come from elsewhere too.
_EXTRA = ("aiosmtpd", "psutil")


def command(
    recipients: Annotated[int, typer.Option(min=1, max=100_000, help="How many recipients.")] = 500,
    redeploy: Annotated[
        bool, typer.Option("--redeploy/--no-redeploy", help="Redeploy the worker half-way.")
    ] = True,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the servers up and print their URLs.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Run a campaign on this machine, redeploy the worker in its middle, and count every mail.

    Starts Redis, Postgres and an SMTP server as child processes, adds the jobs, starts a worker,
    replaces it half-way as Railway does, and compares what was enqueued with what the SMTP server
    accepted and what Postgres says. Needs no settings and leaves no process behind.

    The SMTP server takes 200 ms for each mail (more for under 20 recipients), and a follow-up is
    due 3 seconds after each first mail. The signal to the old worker waits until the new one is
    up; with nothing in flight at that moment the demo fails. Handed over is what was in flight:
    jobs that the old worker still finished, and jobs that it handed back and the new one finished.

    Progress goes to stderr, the result to stdout.

    Examples:

      campaign-worker demo

      campaign-worker demo --recipients 50 --no-redeploy --json

    Exit codes: 0 every number adds up, 1 one does not, or a step failed or made no progress for
    30 seconds, 130 ended by Ctrl-C, 143 by SIGTERM.
    """
    missing = [name for name in _EXTRA if importlib.util.find_spec(name) is None]
    if missing:
        stderr().print("campaign-worker: the demo needs: pip install 'campaign-worker[embedded]'")
        raise typer.Exit(FAILED)
    with exits():
        from campaign_worker import demo

        options = demo.Options(recipients=recipients, redeploy=redeploy, keep=keep, as_json=as_json)
        code = demo.run(options)
    raise typer.Exit(code)
