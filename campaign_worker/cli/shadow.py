"""`campaign-worker shadow`: what a worker would do with the jobs that wait; nothing is sent."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from campaign_worker.cli.console import FAILED, exits, progress_bar, stdout, write_json
from campaign_worker.settings import Settings

if TYPE_CHECKING:
    from campaign_worker.check.shadow import ShadowReport

NAME = "shadow"
_LIMIT = 1000


def command(
    limit: Annotated[
        int, typer.Option("--limit", min=1, help="Most jobs to look at, of each queue.")
    ] = _LIMIT,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Say what a worker would do with the jobs that wait, and do none of it.

    Each job is read where it lies, its guards are asked and its mail is rendered, by CONTRACT if
    that is set. No job is taken, no row stays written, no mail server is called. Other workers may
    run meanwhile. No address is shown.

    Examples:

      campaign-worker shadow

      campaign-worker shadow --limit 20000 --json

    Exit codes: 0 no mail would fail, 1 some would, 77 login refused, 78 settings.
    """
    with exits():
        settings = Settings.load()
        from campaign_worker.check.shadow import shadow
        from campaign_worker.contract.serving import served

        settings, source = served(settings)
        with progress_bar() as bar:
            task = bar.add_task("shadow", total=None)

            def progress(so_far: ShadowReport) -> None:
                bar.update(task, completed=so_far.mails)

            report = asyncio.run(shadow(settings, source, limit, progress))
    failing = any(outcome.startswith("fail") for outcome in report.outcomes)
    if as_json:
        write_json(report)
    else:
        for line in _lines(report, limit):
            stdout().print(line)
    raise typer.Exit(FAILED if failing else 0)


def _lines(report: ShadowReport, limit: int) -> list[str]:
    lines = [f"{report.jobs} jobs, {report.mails} mails; nothing was sent"]
    if report.jobs >= limit:
        lines[0] += f"; the first {limit} of each queue, --limit takes more"
    for outcome, count in report.outcomes.most_common():
        jobs = ", ".join(report.examples.get(outcome, []))
        said = f"  {count:>7}  {outcome}"
        lines.append(f"{said}  (job {jobs})" if jobs else said)
    return lines
