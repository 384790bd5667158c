"""`campaign-worker demo`: a campaign, sent, redeployed in its middle and read, on this machine."""

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
    """Run a campaign on this machine, redeploy the worker in its middle, count mails and readers.

    Starts Redis, Postgres and an SMTP server as child processes, adds the jobs, starts a tracker
    and a worker, replaces the worker half-way as Railway does, and compares what was enqueued with
    what the SMTP server accepted and what Postgres says. Needs no settings and leaves no process
    behind.

    Meanwhile readers take what the SMTP server accepts and ask the tracker for its pictures and
    links. Of 20 recipients, 12 read their first mail, one through Gmail's proxy and two of them
    twice, 5 click, Apple's proxy fetches the pictures of 2, a mail filter all links of one, and one
    unsubscribes and must not get the follow-up. Postgres' counts are compared with what they did.
    A person reads 7 seconds after the mail came: whatever is quicker counts as a machine.

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
