"""The command line: parses, calls the function that does the work, prints, chooses the exit code.

Heavy modules are imported inside the commands, so that `--help` and `version` are quick.
"""

from __future__ import annotations

import typer

from campaign_worker.cli import (
    check,
    contract,
    demo,
    enqueue,
    failed,
    in_doubt,
    migrate,
    pause,
    recover,
    resume,
    run,
    shadow,
    status,
    track,
    version,
)

_HELP = """Sends the e-mails of BullMQ campaigns, and can be redeployed at any second.

Settings come from the environment and .env; see docs/configuration.md.

Examples:

  campaign-worker check                look at everything the settings name

  campaign-worker migrate              bring the database to this version

  campaign-worker run                  work until SIGTERM, then drain and leave

  campaign-worker track                only tracking links and webhooks, no mail

  campaign-worker enqueue 42           add a job per pending recipient

  campaign-worker pause 42             and resume 42: no further mail begins, or all go on

  campaign-worker recover              a job for every mail, after Redis lost some

  campaign-worker status --json        counts for scripts

  campaign-worker in-doubt list        mails whose outcome SMTP could not tell

  campaign-worker failed list          mails that failed and may be tried again

  campaign-worker contract check       does contract.toml fit an existing app?

  campaign-worker shadow               what the waiting jobs would do; sends nothing

  campaign-worker demo                 all of it on this machine, no settings

Exit codes: 0 ok, 1 failed or forced, 2 wrong usage, 70 fault of the program, 75 ended by the
watchdog, 77 a server refused the login, 78 a setting is wrong, 130 and 143 ended by
Ctrl-C and by SIGTERM before its work.
"""

app = typer.Typer(
    name="campaign-worker",
    help=_HELP,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for module in (
    run,
    track,
    demo,
    migrate,
    check,
    enqueue,
    pause,
    resume,
    recover,
    shadow,
    status,
    version,
):
    app.command(module.NAME)(module.command)
for group in (in_doubt, failed, contract):
    app.add_typer(group.app, name=group.NAME)

__all__ = ["app"]
