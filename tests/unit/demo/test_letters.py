"""Mails as a demo's readers find them, and the file that they are found in."""

from __future__ import annotations

from email.message import EmailMessage
from pathlib import Path

import pytest

from campaign_worker.demo.campaign import address, destinations, number_of
from campaign_worker.demo.letters import Mailbox, letter_of
from campaign_worker.embedded.smtp_server import ReceivedMail

BASE = "https://track.demo.example"
HTML = f"""<p>Zoë, <a href="{BASE}/c/one?a=1&amp;b=2">news</a>
<A HREF='{BASE}/c/two'>Łódź</A> <a href="mailto:us@demo.example">write</a></p>
<a href="{BASE}/u/three">no more</a><img src="https://shop.demo.example/logo.png">
<img src="{BASE}/o/four.gif" width="1">"""


def received(content: bytes, *recipients: str) -> ReceivedMail:
    return ReceivedMail(
        message_id="<1@demo.example>",
        sender="news@demo.example",
        recipients=recipients or ("person-1@demo.example",),
        received_ms=1_700_000_000_250,
        size=len(content),
        connection=1,
        ehlo_name="worker",
        smtputf8=False,
        content=content,
    )


def mail(html: str = HTML, **headers: str) -> bytes:
    message = EmailMessage()
    for name, value in headers.items():
        message[name.replace("_", "-")] = value
    message.set_content("the text part")
    message.add_alternative(html, subtype="html", cte="quoted-printable")
    return message.as_bytes()


def test_a_letter_has_its_picture_its_links_in_order_and_both_ways_to_unsubscribe() -> None:
    content = mail(
        List_Unsubscribe=f"<mailto:out@demo.example>, <{BASE}/u/header>",
        List_Unsubscribe_Post="List-Unsubscribe=One-Click",
    )
    letter = letter_of(received(content), "person-1@demo.example", BASE)
    assert letter.picture == f"{BASE}/o/four.gif"
    assert letter.links == (f"{BASE}/c/one?a=1&b=2", f"{BASE}/c/two")
    assert letter.leave == f"{BASE}/u/three"
    assert letter.one_click == f"{BASE}/u/header"
    assert letter.received_at == 1_700_000_000.25


def test_without_the_second_header_nothing_is_one_click() -> None:
    content = mail(List_Unsubscribe=f"<{BASE}/u/header>")
    assert letter_of(received(content), "person-1@demo.example", BASE).one_click == ""


@pytest.mark.parametrize("content", [b"", b"Subject: hello\r\n\r\nno HTML\r\n", mail("<p>plain")])
def test_a_mail_without_a_tracker_has_nothing_to_ask_for(content: bytes) -> None:
    letter = letter_of(received(content), "person-1@demo.example", BASE)
    assert (letter.picture, letter.links, letter.leave, letter.one_click) == ("", (), "", "")


def test_a_mailbox_gives_each_mail_once_and_none_that_is_being_written(tmp_path: Path) -> None:
    path = tmp_path / "contents.jsonl"
    mailbox = Mailbox(path)
    assert mailbox.new() == []
    first, second = received(b"first \xff", "a@x.example"), received(b"second", "b@x.example")
    line = second.to_json(content=True)
    with path.open("w") as file:
        file.write(f"{first.to_json(content=True)}\n{line[:40]}")
        file.flush()
        assert mailbox.new() == [first]
        assert mailbox.new() == []
        file.write(f"{line[40:]}\n")
        file.flush()
        assert mailbox.new() == [second]


@pytest.mark.parametrize("number", [1, 20, 100_000])
def test_an_address_leads_back_to_its_number(number: int) -> None:
    assert number_of(address(number)) == number


@pytest.mark.parametrize("text", ["", "person-0@demo.example", "person-1@demo.example.org", "x@y"])
def test_any_other_address_is_nobody(text: str) -> None:
    assert number_of(text) is None


def test_first_mails_lead_to_a_place_of_each_recipients_own() -> None:
    assert destinations(1, first=True)[1] == "https://shop.demo.example/city/%C5%81%C3%B3d%C5%BA"
    assert destinations(3, first=True)[1] == "https://shop.demo.example/city/S%C3%A3o%20Paulo"
    assert len(destinations(1, first=False)) == 1
