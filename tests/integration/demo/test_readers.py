"""A demo's readers write down what was answered: rightly, wrongly, later, or not at all."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator
from email.message import EmailMessage
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from campaign_worker.demo.campaign import address, destinations
from campaign_worker.demo.letters import Mailbox
from campaign_worker.demo.people import BLOCK, person_of
from campaign_worker.demo.readers import BASE, Readers
from campaign_worker.demo.reading import Counts, Reading
from campaign_worker.embedded.smtp_server import ReceivedMail
from campaign_worker.errors import DemoFailed
from tests.support import eventually

NUMBERS = {person_of(number).name: number for number in range(1, BLOCK + 1)}


class Tracker:
    """Answers as it is told, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: Counter[tuple[str, str]] = Counter()
        self.forms: list[str] = []
        self.picture, self.page = 200, 200
        self.away = 0
        self.leads_to: dict[str, str] = {}

    async def answer(self, request: web.Request) -> web.Response:
        self.asked[request.method, request.path] += 1
        if request.path.startswith("/o/"):
            return web.Response(status=self.picture)
        if request.path.startswith("/c/"):
            location = self.leads_to[request.path.rpartition("/")[2]]
            return web.Response(status=302, headers={"Location": location})
        if request.method == "POST":
            self.forms.append(await request.text())
            if self.away:
                self.away -= 1
                return web.Response(status=503)
        return web.Response(status=self.page)


def mail(number: int, *, html: str | None = None, age_seconds: float = 60) -> ReceivedMail:
    message = EmailMessage()
    message["List-Unsubscribe"] = f"<{BASE}/u/{number}>"
    message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    message.set_content("text")
    links = f'<a href="{BASE}/c/1">1</a><a href="{BASE}/c/2">2</a><a href="{BASE}/u/{number}">x</a>'
    picture = f'<img src="{BASE}/o/{number}.gif">'
    message.add_alternative(links + picture if html is None else html, subtype="html")
    return ReceivedMail(
        message_id=f"<{number}>",
        sender="news@demo.example",
        recipients=(address(number),),
        received_ms=int((time.time() - age_seconds) * 1000),
        size=1,
        connection=1,
        ehlo_name="worker",
        smtputf8=False,
        content=message.as_bytes(),
    )


@contextlib.asynccontextmanager
async def reading(folder: Path, *mails: ReceivedMail) -> AsyncIterator[tuple[Readers, Tracker]]:
    """Readers that have just begun with these mails, and the tracker that they ask."""
    path = folder / "contents.jsonl"
    path.write_text("".join(f"{each.to_json(content=True)}\n" for each in mails))
    tracker = Tracker()
    for each in mails:
        number = int(each.message_id[1:-1])
        tracker.leads_to = dict(zip("12", destinations(number, first=True), strict=True))
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", tracker.answer)
    async with (
        TestServer(app) as server,
        aiohttp.ClientSession() as session,
        contextlib.aclosing(Readers(Mailbox(path), session)) as readers,
    ):
        readers.start(str(server.make_url("")).rstrip("/"))
        yield readers, tracker


async def read(readers: Readers) -> Reading:
    readers.no_more_mails()
    await eventually(lambda: readers.finished, 20)
    readers.check()
    return readers.reading()


async def test_each_person_does_what_is_theirs(tmp_path: Path) -> None:
    mails = [mail(number) for number in sorted(NUMBERS.values())]
    async with reading(tmp_path, *mails) as (readers, tracker):
        tracker.leads_to["2"] = "https://elsewhere.example"
        found = await read(readers)
    assert found.counts == Counts(
        opened=5, opens=5, machine_opens=1, clicked=3, clicks=3, machine_clicks=4, unsubscribed=1
    )
    assert found.wrong == {"a link led elsewhere": 2}
    assert readers.answered == 14
    assert tracker.asked["GET", f"/u/{NUMBERS['is behind a mail filter']}"] == 1
    assert tracker.asked["POST", f"/u/{NUMBERS['unsubscribes']}"] == 1
    assert tracker.forms == ["List-Unsubscribe=One-Click"]


async def test_an_unsubscribe_is_sent_again_while_the_tracker_asks_for_it(tmp_path: Path) -> None:
    number = NUMBERS["unsubscribes"]
    async with reading(tmp_path, mail(number)) as (readers, tracker):
        tracker.away = 2
        found = await read(readers)
    assert found.unsubscribed == {address(number): False}, "a minute after the mail is late"
    assert len(tracker.forms) == 3
    assert found.wrong == {}


async def test_a_request_that_was_answered_wrongly_counts_for_nothing(tmp_path: Path) -> None:
    async with reading(tmp_path, mail(NUMBERS["reads"])) as (readers, tracker):
        tracker.picture = 404
        found = await read(readers)
    assert found.seen == {}
    assert found.wrong == {"a picture was answered with 404": 1}


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("reads", "a mail had no picture"),
        ("clicks without pictures", "a mail had too few tracked links"),
    ],
)
async def test_a_mail_that_leads_past_the_tracker_is_named(
    tmp_path: Path, name: str, problem: str
) -> None:
    plain = '<a href="https://shop.demo.example/news">news</a>'
    async with reading(tmp_path, mail(NUMBERS[name], html=plain)) as (readers, _):
        found = await read(readers)
    assert found.wrong == {problem: 1}


async def test_a_person_does_not_read_a_mail_that_has_just_come(tmp_path: Path) -> None:
    fresh = mail(NUMBERS["reads"], age_seconds=-3600)
    machine = mail(NUMBERS["lets Apple fetch pictures"], age_seconds=-3600)
    async with reading(tmp_path, fresh, machine) as (readers, tracker):
        readers.no_more_mails()
        await eventually(lambda: readers.answered == 1)
        assert not readers.finished
        assert list(tracker.asked) == [("GET", f"/o/{NUMBERS['lets Apple fetch pictures']}.gif")]


async def test_a_tracker_that_does_not_answer_fails_the_demo(tmp_path: Path) -> None:
    path = tmp_path / "contents.jsonl"
    path.write_text(f"{mail(NUMBERS['reads']).to_json(content=True)}\n")
    async with (
        aiohttp.ClientSession() as session,
        contextlib.aclosing(Readers(Mailbox(path), session)) as readers,
    ):
        # The port of the discard service: nobody listens there.
        readers.start("http://127.0.0.1:9")
        await eventually(lambda: readers.finished)
        with pytest.raises(DemoFailed, match="readers: the tracker did not answer"):
            readers.check()
