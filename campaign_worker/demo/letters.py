"""Mails as readers find them: their picture, links and headers, out of what the SMTP server kept.

Reads only what was accepted, never what a template says.
"""

from __future__ import annotations

import email
import re
from dataclasses import dataclass
from email import policy
from email.message import EmailMessage
from html.parser import HTMLParser
from pathlib import Path

from campaign_worker.embedded.smtp_server import ReceivedMail

PAGE_BYTES = 4 * 1024 * 1024

_ONE_CLICK = "List-Unsubscribe=One-Click"
_HEADER_URL = re.compile(r"<(https://[^<>\s]+)>")


@dataclass(frozen=True, slots=True)
class Letter:
    """One mail for one address, accepted at `received_at` (epoch seconds).

    `picture` is the URL of the open pixel, `links` those of tracked links in their order, `leave`
    the one that the text offers to unsubscribe, `one_click` that of the headers (RFC 8058). Empty
    where the mail has none.
    """

    address: str
    message_id: str
    received_at: float
    picture: str
    links: tuple[str, ...]
    leave: str
    one_click: str


class Mailbox:
    """The SMTP server's file of whole mails, read as it grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def new(self) -> list[ReceivedMail]:
        """Return what has come since the last call, at most 4 MB of it; each mail once."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            # A line without its end is being written: it comes next time.
            whole, end, _ = file.read(PAGE_BYTES).rpartition(b"\n")
        self._offset += len(whole) + len(end)
        return [ReceivedMail.from_json(line) for line in whole.decode().splitlines()]


def letter_of(mail: ReceivedMail, address: str, base: str) -> Letter:
    """Read one mail, for one of its addresses. `base` is that of the tracked URLs."""
    message = email.message_from_bytes(mail.content, policy=policy.default)
    html = message.get_body(("html",))
    urls = _Urls()
    if isinstance(html, EmailMessage):
        urls.feed(str(html.get_content()))
        urls.close()
    leaving = [url for url in urls.links if url.startswith(f"{base}/u/")]
    return Letter(
        address=address,
        message_id=mail.message_id,
        received_at=mail.received_ms / 1000,
        picture=next((url for url in urls.pictures if url.startswith(f"{base}/o/")), ""),
        links=tuple(url for url in urls.links if url.startswith(f"{base}/c/")),
        leave=leaving[0] if leaving else "",
        one_click=_one_click(message),
    )


def _one_click(message: EmailMessage) -> str:
    if str(message.get("List-Unsubscribe-Post", "")).strip() != _ONE_CLICK:
        return ""
    found = _HEADER_URL.search(str(message.get("List-Unsubscribe", "")))
    return found[1] if found else ""


class _Urls(HTMLParser):
    """Collects the addresses of pictures and links in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.pictures: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "img":
            self.pictures.append(values.get("src") or "")
        elif tag == "a":
            self.links.append(values.get("href") or "")
