"""From options to an exit code: builds the stage, runs the drill, judges, prints, clears away.

Owns the signals: the first one ends the demo, a second one ends its clearing away. Nothing that it
started outlives it.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Iterator, Mapping

import aiohttp

from campaign_worker.demo import report as reports
from campaign_worker.demo.campaign import create_campaign
from campaign_worker.demo.drill import Drill
from campaign_worker.demo.evidence import gather, redis_client
from campaign_worker.demo.facts import Evidence
from campaign_worker.demo.letters import Mailbox
from campaign_worker.demo.options import Options, pace_of
from campaign_worker.demo.progress import Display, display_for
from campaign_worker.demo.readers import Readers
from campaign_worker.demo.stage import (
    connected,
    enqueue,
    how_to_use,
    servers,
    settings_of,
    step,
)
from campaign_worker.demo.verdict import Report, judge
from campaign_worker.demo.watch import Watch
from campaign_worker.embedded.stack import EmbeddedStack
from campaign_worker.errors import DemoFailed
from campaign_worker.storage.migrate import migrate

FAILED = 1
SIGNALLED = 128
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Signals:
    """Turns signals into the cancellation of this task, or into the end of its wait for one."""

    def __init__(self) -> None:
        self.came: signal.Signals | None = None
        self._task = asyncio.current_task()
        self._awaited: asyncio.Event | None = None

    async def wait(self) -> None:
        """Wait for the first signal, which then cancels nothing."""
        self._awaited = asyncio.Event()
        await self._awaited.wait()

    @contextlib.contextmanager
    def handled(self) -> Iterator[None]:
        """Hold the handlers."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._note, number)
        try:
            yield
        finally:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)

    def _note(self, number: signal.Signals) -> None:
        first = self.came is None
        self.came = self.came or number
        if first and self._awaited is not None:
            self._awaited.set()
        elif self._task is not None:
            self._task.cancel()


def run(options: Options) -> int:
    """Run a demo; must be called in the main thread. Returns the exit code.

    0: every number adds up. 1: one does not. 128 and the signal's number: a signal ended it.
    Raises BinaryMissing, EmbeddedServerError, DemoFailed or another error of our tree when a step
    fails. Whatever happens, nothing is left running.
    """
    return asyncio.run(_run(options))


async def _run(options: Options) -> int:
    signals = _Signals()
    with display_for(sys.stderr) as display:
        try:
            with signals.handled():
                return await _play(options, display, signals)
        except asyncio.CancelledError:
            if signals.came is None:
                raise
            display.say(f"ended by {signals.came.name}; nothing is left running")
            return SIGNALLED + signals.came
        except DemoFailed as error:
            if error.log:
                display.say(error.log)
            raise


async def _play(options: Options, display: Display, signals: _Signals) -> int:
    began_at = time.monotonic()
    pace = pace_of(options.recipients)
    async with servers(pace, display) as stack:
        variables = settings_of(stack, pace)
        report = judge(await _evidence(options, stack, variables, display, began_at))
        display.close()
        _print(report, options)
        if options.keep:
            for line in how_to_use(variables, stack.sink.contents):
                display.say(line)
            await signals.wait()
    return 0 if report.adds_up else FAILED


async def _evidence(
    options: Options,
    stack: EmbeddedStack,
    variables: Mapping[str, str],
    display: Display,
    began_at: float,
) -> Evidence:
    with step("migrate"):
        report = await migrate(stack.database_url)
    display.say(f"schema {report.schema} migrated to version {report.version}")
    async with (
        connected(stack.database_url) as connection,
        aiohttp.ClientSession() as session,
        redis_client(stack.redis_url) as redis,
        contextlib.aclosing(Readers(Mailbox(stack.sink.contents), session)) as readers,
    ):
        with step("create the campaign"):
            campaign_id = await create_campaign(connection, options.recipients)
        enqueued = await enqueue(variables, campaign_id, display)
        watch = Watch(
            connection=connection,
            redis=redis,
            stack=stack,
            session=session,
            display=display,
            campaign_id=campaign_id,
            mails=options.mails,
        )
        with step("send the campaign"):
            handover = await Drill(
                options, watch, readers, display, variables, stack.data_dir
            ).run()
        with step("count"):
            return await gather(
                connection=connection,
                redis=redis,
                sink=stack.sink,
                campaign_id=campaign_id,
                recipients=options.recipients,
                enqueued=enqueued,
                reading=readers.reading(),
                handover=handover,
                began_at=began_at,
            )


def _print(report: Report, options: Options) -> None:
    if options.as_json:
        sys.stdout.write(f"{reports.as_json(report)}\n")
    else:
        reports.print_table(report, sys.stdout)
    sys.stdout.flush()
