"""What a render puts where links and the pixel are: the URLs of one recipient's mail.

Compiled templates find it through a context variable, so that no name of a template can hide it.
"""

from __future__ import annotations

import contextlib
import html
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from jinja2 import pass_context
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from markupsafe import Markup

from campaign_worker.mail.html_scan import unescape_value
from campaign_worker.mail.links_destination import trackable
from campaign_worker.tracking.urls import TrackingUrls

LINK = "tracked_link"
DESTINATION = "tracked_destination"
TEXT_DESTINATION = "tracked_text"
PIXEL = "tracking_pixel"


@dataclass(slots=True)
class Stamps:
    """The tracking URLs of one mail.

    `links` are (URL, shown) by position, `ids` those of their rows; a link without one carries its
    URL in the token.
    `originals` tells, for each URL that was put into the HTML, what stood there.
    """

    urls: TrackingUrls
    message_id: int
    links: Sequence[tuple[str, str]]
    ids: Sequence[int | None]
    originals: dict[str, str] = field(default_factory=dict)
    pixels: int = 0

    def link(self, position: int) -> str:
        """Give the URL for a link that the template itself spells out."""
        url, shown = self.links[position]
        link_id = self.ids[position] if len(self.ids) == len(self.links) else None
        if self.urls.is_ours(url):
            return url
        destination = url if link_id is None else None
        stamped = self.urls.click(self.message_id, link_id=link_id, destination=destination)
        self.originals[stamped] = shown
        return stamped

    def destination(self, text: str) -> str | None:
        """Give the URL for a rendered destination; None where the link is to stay as it is."""
        url = trackable(text)
        if url is None or self.urls.is_ours(url):
            return None
        stamped = self.urls.click(self.message_id, destination=url)
        self.originals[stamped] = text
        return stamped

    def pixel(self) -> str:
        """Give the picture that tells of an open, once; nothing after that."""
        self.pixels += 1
        if self.pixels > 1:
            return ""
        url = html.escape(self.urls.open(self.message_id))
        return f'<img src="{url}" width="1" height="1" alt="" style="border:0">'


_current: ContextVar[Stamps | None] = ContextVar("stamps", default=None)


@contextlib.contextmanager
def stamping(stamps: Stamps | None) -> Iterator[None]:
    """Let what is rendered inside find these."""
    token = _current.set(stamps)
    try:
        yield
    finally:
        _current.reset(token)


def _mine() -> Stamps:
    found = _current.get()
    if found is None:
        raise SecurityError("tracking has no part in this text")
    return found


# A filter that takes the context is never folded into a constant when the template is compiled.
@pass_context
def _link(_context: Context, position: int) -> Markup:
    return Markup(html.escape(_mine().link(position)))  # noqa: S704 - escaped


@pass_context
def _destination(_context: Context, value: str) -> str:
    stamped = _mine().destination(unescape_value(str(value)))
    return value if stamped is None else html.escape(stamped)


@pass_context
def _text_destination(_context: Context, value: str) -> str:
    stamped = _mine().destination(str(value))
    return value if stamped is None else stamped


@pass_context
def _pixel(_context: Context, _value: Any) -> Markup:
    return Markup(_mine().pixel())  # noqa: S704 - our own mark-up around an escaped URL


FILTERS: dict[str, Callable[..., Any]] = {
    LINK: _link,
    DESTINATION: _destination,
    TEXT_DESTINATION: _text_destination,
    PIXEL: _pixel,
}
"""What links.py writes into templates; names that no template needs to know."""
