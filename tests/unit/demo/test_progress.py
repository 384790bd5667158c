"""Progress of a demo: lines for pipes, a bar for people, and a pace that leaves mails in flight."""

from __future__ import annotations

import io
import os
import pty
import re
from dataclasses import replace

import pytest

from campaign_worker.demo.options import MAIL_LATENCY_MS, Options, pace_of
from campaign_worker.demo.progress import Bar, Frame, Lines, display_for
from campaign_worker.demo.report import print_table
from campaign_worker.demo.verdict import Report, judge
from tests.unit.demo.test_verdict import BROKEN, sound

FRAME = Frame(
    seconds=3.4,
    step="worker-b starts",
    accepted=120,
    sent=118,
    mails=1000,
    opened=31,
    clicked=4,
    unsubscribed=2,
    in_flight={"worker-b": 0, "worker-a": 20},
)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_lines_come_once_a_second() -> None:
    stream, clock = io.StringIO(), Clock()
    lines = Lines(stream, clock)
    for clock.now in (0.0, 0.5, 0.9, 1.0, 1.9, 2.1):
        lines.show(FRAME)
    assert stream.getvalue().count("\n") == 3


def test_a_line_says_how_far_everything_is() -> None:
    stream = io.StringIO()
    Lines(stream).show(FRAME)
    assert stream.getvalue() == (
        "   3 s  120/1000 accepted, 118 sent in Postgres,"
        " 31 opened, 4 clicked, 2 unsubscribed;"
        " in flight worker-a: 20, worker-b: 0; worker-b starts\n"
    )


def test_what_is_said_comes_at_once() -> None:
    stream, clock = io.StringIO(), Clock()
    lines = Lines(stream, clock)
    lines.show(FRAME)
    lines.say("one")
    lines.say("two")
    assert stream.getvalue().endswith("one\ntwo\n")


def test_a_reader_that_went_away_does_not_end_the_demo() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", buffering=1) as stream:
        Lines(stream).say("nobody reads this")
        # What is still in its buffer would fail again when it is closed.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        assert not stream.closed


def test_a_pipe_gets_lines() -> None:
    assert isinstance(display_for(io.StringIO()), Lines)


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as terminal:
        display = display_for(terminal)
        assert isinstance(display, Bar)
        with display:
            display.say("Redis from here")
            display.show(FRAME)
            # A terminal hands over what was written piece by piece.
            shown = ""
            while "120/1000 accepted" not in shown:
                shown += os.read(master, 100_000).decode()
    os.close(master)
    assert "Redis from here" in shown
    assert "31 opened, 4 clicked, 2 unsubscribed" in shown


@pytest.mark.parametrize(
    ("recipients", "concurrency", "latency_ms"),
    [(1, 1, 4000.0), (10, 1, 400.0), (20, 1, 200.0), (40, 2, 200.0), (400, 20, 200.0)],
)
def test_few_recipients_get_a_slower_pace(
    recipients: int, concurrency: int, latency_ms: float
) -> None:
    pace = pace_of(recipients)
    assert (pace.concurrency, pace.latency_ms) == (concurrency, latency_ms)


def test_the_usual_campaign_takes_200_ms_a_mail_at_20_jobs_at_once() -> None:
    pace = pace_of(Options().recipients)
    assert (pace.concurrency, pace.latency_ms) == (20, MAIL_LATENCY_MS)


@pytest.mark.parametrize("recipients", [-1, 0, 100_001, 1_000_000])
def test_a_number_of_recipients_that_makes_no_sense_is_refused(recipients: int) -> None:
    with pytest.raises(ValueError, match="from 1 to 100000"):
        Options(recipients=recipients)


def shown(report: Report) -> str:
    stream = io.StringIO()
    print_table(report, stream)
    return stream.getvalue()


def test_the_table_ends_with_whether_it_adds_up() -> None:
    text = shown(judge(sound()))
    assert "jobs handed over by the redeploy" in text
    assert re.search(r"mails opened by people +│ +2 ", text)
    assert text.endswith("Every number adds up.\n")


def test_the_table_names_what_does_not_add_up() -> None:
    text = shown(judge(replace(sound(), sent_count=7)))
    assert "Does not add up: 1 differences between Postgres and the SMTP server.\n" in text
    assert "Every number adds up" not in text


def test_the_table_says_what_a_wrong_count_must_be() -> None:
    spoil, _, sentence = BROKEN["an open that was counted twice"]
    text = shown(judge(spoil(sound())))
    assert re.search(r"opens by people +│ 3 instead of 2 ", text)
    assert f"Does not add up: {sentence}.\n" in text
