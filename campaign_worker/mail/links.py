"""The links of a template's source: found once per version, replaced by calls that stamp them.

Only attribute values change, and a pixel is added; every other character of the source stays.
Knows no recipient: what a link becomes is links_stamps.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import jinja2
from jinja2 import nodes

from campaign_worker.mail.html_scan import VOID, Close, Open, scan, unescape_value
from campaign_worker.mail.links_destination import trackable
from campaign_worker.mail.links_stamps import DESTINATION, LINK, PIXEL, TEXT_DESTINATION
from campaign_worker.mail.template_mask import Kind, Mask, masked

MAX_LINKS = 2000
"""Links of one part that are tracked; what comes after them stays as it is."""

NO_TRACK = "data-no-track"
_LINKED = {"a", "area"}
_URL_IN_TEXT = re.compile(r"(?<!\w)https?://[^\s<>\"'`]++", re.IGNORECASE)
_ENDS_A_SENTENCE = ".,;:!?)]}*_"


@dataclass(frozen=True, slots=True)
class Link:
    """A link's place in the source; for one that the template spells out, where it leads.

    `url` is the destination for tokens and rows, `shown` what readers of the source saw.
    """

    start: int
    end: int
    url: str | None = None
    shown: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """What can be tracked in one part of a template, by place."""

    source: str
    mask: Mask
    links: tuple[Link, ...] = ()
    body_ends: tuple[int, ...] = ()

    @property
    def static(self) -> tuple[tuple[str, str], ...]:
        """What the template itself spells out, (URL, shown) for each place."""
        return tuple((link.url, link.shown) for link in self.links if link.url is not None)


def find_in_html(source: str, environment: jinja2.Environment) -> Found:
    """Find links and the ends of the body. Raises jinja2.TemplateSyntaxError."""
    mask = masked(source, environment)
    reader = _Reader(source, mask, environment)
    for token in scan(mask.text):
        match token:
            case Open():
                reader.open(token)
            case Close(name, start):
                reader.close(name, start)
            case _:
                pass
    return Found(source, mask, tuple(reader.links[:MAX_LINKS]), tuple(reader.body_ends))


def find_in_text(source: str, environment: jinja2.Environment) -> Found:
    """Find the URLs of a plain text. Raises jinja2.TemplateSyntaxError."""
    mask = masked(source, environment)
    places = (
        (found.start(), found.start() + len(_without_ending(found[0])))
        for found in _URL_IN_TEXT.finditer(mask.text)
    )
    links = (
        _link(source, mask, environment, start, end)
        for start, end in places
        if not mask.has_tag(start - 1, start) and not mask.has_tag(end, end + 1)
    )
    return Found(source, mask, tuple(link for link in links if link is not None)[:MAX_LINKS])


def with_stamps(found: Found, *, clicks: bool, opens: bool, text: bool, first: int = 0) -> str:
    """Give the source with calls of links_stamps where its links are; `first` is their position."""
    edits: list[tuple[int, int, str]] = []
    position = first
    for link in found.links if clicks else ():
        piece = found.source[link.start : link.end]
        if link.url is not None:
            stamp = f"{{{{ {position}|{LINK} }}}}"
            position += 1
        else:
            name = TEXT_DESTINATION if text else DESTINATION
            stamp = f"{{% filter {name} %}}{piece}{{% endfilter %}}"
        edits.append((link.start, link.end, stamp))
    if opens:
        edits += [(place, place, f"{{{{ 0|{PIXEL} }}}}") for place in found.body_ends]
    return "".join(_spliced(found, sorted(edits)))


def _spliced(found: Found, edits: list[tuple[int, int, str]]) -> Iterator[str]:
    after = 0
    for start, end, stamp in edits:
        yield found.source[after:start]
        raw = found.mask.kinds[start] == Kind.RAW
        yield f"{{% endraw %}}{stamp}{{% raw %}}" if raw else stamp
        after = end
    yield found.source[after:]


class _Reader:
    """Collects what can be tracked while the tags go by."""

    def __init__(self, source: str, mask: Mask, environment: jinja2.Environment) -> None:
        self._source = source
        self._mask = mask
        self._environment = environment
        self._untracked: str | None = None
        self._depth = 0
        self.links: list[Link] = []
        self.body_ends: list[int] = []

    def open(self, tag: Open) -> None:
        """Take an opening tag."""
        if self._untracked is not None:
            self._depth += tag.name == self._untracked
            return
        if NO_TRACK in tag.source.lower() and NO_TRACK in tag.attributes():
            if tag.name not in _LINKED | VOID:
                # With all that is in it, up to its closing tag.
                self._untracked, self._depth = tag.name, 1
            return
        if tag.name not in _LINKED or len(self.links) >= MAX_LINKS:
            return
        if tag.start + len(tag.source) == len(self._source):
            return  # no tag: its end never came
        for value in tag.values():
            if value.name == "href" and self._whole(value.start, value.end, value.quote):
                link = _link(
                    self._source, self._mask, self._environment, value.start, value.end, html=True
                )
                self.links += [] if link is None else [link]

    def close(self, name: str, start: int) -> None:
        """Take a closing tag."""
        if name == "body" and self._mask.kinds[start] in (Kind.DATA, Kind.RAW):
            self.body_ends.append(start)
        if name == self._untracked:
            self._depth -= 1
            if self._depth == 0:
                self._untracked = None

    def _whole(self, start: int, end: int, quote: str) -> bool:
        """Whether the value ends in every rendering where it ends here."""
        # What a tag prints right beside a bare value belongs to it.
        return bool(quote) or not (
            self._mask.has_tag(start - 1, start) or self._mask.has_tag(end, end + 1)
        )


def _link(
    source: str,
    mask: Mask,
    environment: jinja2.Environment,
    start: int,
    end: int,
    *,
    html: bool = False,
) -> Link | None:
    """Give what can be tracked at a place, or None."""
    piece = source[start:end]
    before = mask.kinds[start - 1] if start else Kind.DATA
    if not piece or "unsubscribe" in piece.lower() or before not in (Kind.DATA, Kind.RAW):
        return None
    if mask.plain(start, end):
        shown = unescape_value(piece) if html else piece
        url = trackable(shown)
        return None if url is None else Link(start, end, url, shown)
    if before == Kind.RAW or Kind.CAPTURED in mask.kinds[start:end]:
        return None
    if mask.has_tag(start, end) and not _stands_alone(piece, environment):
        return None
    return Link(start, end)


def _stands_alone(piece: str, environment: jinja2.Environment) -> bool:
    """Whether a piece of template can go into a block of its own without another meaning."""
    try:
        tree = environment.parse(piece)
    except (jinja2.TemplateSyntaxError, ValueError, RecursionError):
        return False  # a number of too many digits is a ValueError
    return tree.find(nodes.Assign) is None and tree.find(nodes.AssignBlock) is None


def _without_ending(url: str) -> str:
    """Leave out what ends a sentence rather than a URL; a closing bracket may belong to it."""
    opened, closed = url.count("("), url.count(")")
    end = len(url)
    while url[end - 1] in _ENDS_A_SENTENCE:
        if url[end - 1] == ")":
            if opened >= closed:
                break
            closed -= 1
        end -= 1
    return url[:end]
