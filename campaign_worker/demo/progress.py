"""Shows how far a campaign is: a bar on a terminal, a line per second elsewhere. Always on stderr.

stdout belongs to the result.
"""

from __future__ import annotations

import abc
import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

LINE_EVERY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Frame:
    """One moment. `in_flight` is by worker, `seconds` since the campaign began.

    `mails` is how many it comes to, less those that an unsubscribe has held back. `opened` and
    `clicked` are mails, by people; `unsubscribed` are recipients.
    """

    seconds: float
    step: str
    accepted: int
    sent: int
    mails: int
    opened: int
    clicked: int
    unsubscribed: int
    in_flight: Mapping[str, int]

    @property
    def read(self) -> str:
        """What the readers have done, as people read it."""
        return f"{self.opened} opened, {self.clicked} clicked, {self.unsubscribed} unsubscribed"

    @property
    def workers(self) -> str:
        """The workers with what they have in hand, as people read it."""
        return ", ".join(f"{name}: {count}" for name, count in sorted(self.in_flight.items()))


class Display(abc.ABC):
    """Something to look at; a context manager."""

    @abc.abstractmethod
    def say(self, text: str) -> None:
        """Write one line that stays."""

    @abc.abstractmethod
    def show(self, frame: Frame) -> None:
        """Show this moment instead of the last one."""

    @abc.abstractmethod
    def close(self) -> None:
        """Leave the terminal as it was. Idempotent."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Lines(Display):
    """A line per second, for logs and pipes."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._shown_at: float | None = None

    def say(self, text: str) -> None:
        """Write it at once."""
        # Whoever read along may have gone; the demo goes on.
        with contextlib.suppress(BrokenPipeError):
            self._stream.write(f"{text}\n")
            self._stream.flush()

    def show(self, frame: Frame) -> None:
        """Write a line if the last one is a second old."""
        now = self._clock()
        if self._shown_at is not None and now - self._shown_at < LINE_EVERY_SECONDS:
            return
        self._shown_at = now
        workers = f"; in flight {frame.workers}" if frame.in_flight else ""
        self.say(
            f"{frame.seconds:4.0f} s  {frame.accepted}/{frame.mails} accepted,"
            f" {frame.sent} sent in Postgres, {frame.read}{workers}; {frame.step}"
        )

    def close(self) -> None:
        """There is nothing to put back."""


class Bar(Display):
    """A bar that moves, for people at a terminal."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TimeElapsedColumn(),
            BarColumn(),
            TextColumn("{task.completed}/{task.total} accepted"),
            TextColumn("{task.fields[read]}", style="green"),
            TextColumn("{task.fields[workers]}", style="cyan"),
            TextColumn("{task.description}", style="dim"),
            console=console,
            transient=True,
        )
        self._task = self._progress.add_task("", total=None, read="", workers="", visible=False)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def say(self, text: str) -> None:
        """Write it above the bar."""
        self._progress.console.print(text)

    def show(self, frame: Frame) -> None:
        """Move the bar."""
        self._progress.update(
            self._task,
            completed=frame.accepted,
            total=frame.mails,
            read=frame.read,
            workers=frame.workers,
            description=frame.step,
            visible=True,
        )

    def close(self) -> None:
        """Take the bar away; lines stay."""
        self._progress.stop()


def display_for(stream: TextIO) -> Display:
    """Choose: a bar where the stream is a terminal that can move its cursor, lines elsewhere."""
    console = Console(file=stream, markup=False, highlight=False, soft_wrap=True)
    if console.is_terminal and not console.is_dumb_terminal:
        return Bar(console)
    return Lines(stream)
