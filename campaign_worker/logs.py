"""Log lines: one JSON object each on stdout, or text for people on a terminal.

Owns format, levels, masking on the way out, and the survival of a closed stdout. Libraries that use
`logging` (aiohttp, asyncio, redis) come out the same way. Decides nothing about what is logged.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import sys
from typing import TYPE_CHECKING, Any, Final, Literal, TextIO, TypeAlias

import structlog

from campaign_worker.masking import clean

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

LogFormat: TypeAlias = Literal["auto", "json", "console"]
LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]

FIRST_KEYS: Final = ("message", "level", "timestamp")
_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
# Their debug lines are about themselves, and some quote what went over the wire.
_LIBRARIES: Final = ("aiohttp", "aiosmtplib", "asyncio", "asyncpg", "redis")


def configure(
    log_format: LogFormat = "auto",
    level: LogLevel = "info",
    *,
    instance: str | None = None,
    stream: TextIO | None = None,
) -> None:
    """Set up logging of this process; calling it again replaces what it had set up.

    `auto` is console on a terminal and JSON elsewhere. `instance` is bound to every line. `stream`
    is sys.stdout unless given: platforms take what is on stderr for errors.
    """
    out = _stdout() if stream is None else stream
    number = _LEVELS[level]
    console = log_format == "console" or (log_format == "auto" and out.isatty())
    if isinstance(out, io.TextIOWrapper):
        out.reconfigure(errors="backslashreplace")
    # Warnings would go to stderr, which platforms show as errors.
    logging.captureWarnings(capture=True)
    root = logging.getLogger()
    for old in [handler for handler in root.handlers if isinstance(handler, LineHandler)]:
        root.removeHandler(old)
    handler = LineHandler(out)
    handler.setFormatter(_formatter(console=console, colors=out.isatty(), instance=instance))
    root.addHandler(handler)
    root.setLevel(number)
    for library in _LIBRARIES:
        logging.getLogger(library).setLevel(max(number, logging.INFO))
    # While Postgres is away it would write a stack for each of its tries; we say it once.
    logging.getLogger("asyncpg.pool").setLevel(logging.ERROR)
    structlog.configure(
        processors=[*_shared_processors(), structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def _stdout() -> TextIO:
    # A process that was started without one has None here; its lines have no reader.
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - it lives as long as the process
    return sys.stdout


class LineHandler(logging.StreamHandler[TextIO]):
    """Writes a record as one line and flushes it; whatever goes wrong stays in here."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; for a record that cannot be formatted, one that says so."""
        try:
            return super().format(record)
        except Exception as error:  # noqa: BLE001 - a log line must not end a job
            return json.dumps(
                {
                    "message": "a log record could not be formatted",
                    "level": "error",
                    "logger": record.name,
                    "error_type": type(error).__name__,
                }
            )

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Give up this line; after a broken pipe, all lines to come."""
        del record
        if isinstance(sys.exception(), BrokenPipeError):
            self._write_to_nowhere()

    def _write_to_nowhere(self) -> None:
        # The interpreter flushes stdout at exit and would turn exit code 0 into 120.
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            try:
                os.dup2(nowhere, self.stream.fileno())
            finally:
                os.close(nowhere)


def _shared_processors() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def _formatter(*, console: bool, colors: bool, instance: str | None) -> logging.Formatter:
    def bind_instance(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        if instance is not None:
            event.setdefault("instance", instance)
        return event

    renderer: Processor = structlog.processors.JSONRenderer()
    if console:
        renderer = structlog.dev.ConsoleRenderer(
            event_key="message",
            pad_event_to=0,
            colors=colors,
            # Tracebacks are text by then, because they have to be masked.
            exception_formatter=structlog.dev.plain_traceback,
        )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            *_shared_processors(),
            structlog.stdlib.add_logger_name,
            structlog.stdlib.ExtraAdder(),
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            bind_instance,
            structlog.processors.format_exc_info,
            structlog.processors.EventRenamer("message"),
            mask,
            renderer,
        ],
    )


def mask(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Mask secrets always, addresses and subjects above debug; put the keys people read first.

    Runs last before the renderer, so that tracebacks and lines of libraries pass through it too.
    """
    cleaned: dict[str, Any] = clean(event, addresses=event.get("level") == "debug")
    first = {key: cleaned.pop(key) for key in FIRST_KEYS if key in cleaned}
    return first | cleaned
