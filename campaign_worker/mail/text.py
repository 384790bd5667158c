"""Plain text from HTML, for mails that come without a text part.

Keeps what a reader needs: words, links as `text (url)`, lists, headings, tables. Drops what is
not shown. Own code: see docs/decisions/0004-html-to-text.md.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from campaign_worker.mail.html_scan import VOID, Close, Open, Text, scan

MAX_DEPTH = 20
_RULE = "-" * 20

_PARAGRAPHS = frozenset({
    "p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "dl", "table", "blockquote", "pre", "hr",
    "figure", "fieldset",
})  # fmt: skip
_LINES = frozenset({
    "div", "tr", "li", "dt", "dd", "section", "article", "header", "footer", "main", "nav", "aside",
    "address", "form", "center", "caption", "figcaption", "thead", "tbody", "tfoot", "legend",
    "option", "summary", "details",
})  # fmt: skip
_UNSEEN = frozenset({
    "head", "template", "noframes", "object", "iframe", "svg", "math", "select", "textarea",
})  # fmt: skip
_CELLS = frozenset({"td", "th"})
_MAYBE_HIDDEN = re.compile(r"hidden|none|hide|max-height", re.IGNORECASE)
_START = re.compile(r"[0-9]{1,6}")
_HIDDEN = re.compile(r"display:none|visibility:hidden|mso-hide:all|max-height:0(?![.\d])", re.ASCII)
# What pads preheaders; ZWJ and ZWNJ are kept, they belong to emoji and scripts.
_PADDING = dict.fromkeys((0x00AD, 0x034F, 0x200B, 0x2060, 0xFEFF))
_CONTROLS = {
    code: None
    for code in range(0xA0)
    if unicodedata.category(chr(code)) == "Cc" and chr(code) not in "\t\n\r\f"
}
_DROPPED = {**_PADDING, **_CONTROLS}


def from_html(source: str, originals: Mapping[str, str] = MappingProxyType({})) -> str:
    """Give the readable text of any HTML, well formed or not, in time linear in its length.

    Lines end in LF; the text neither begins nor ends with blank lines. A link whose address is in
    `originals` is shown with what stands there.
    """
    writer = _Writer()
    reader = _Reader(writer, originals)
    for token in scan(source):
        match token:
            case Text(data):
                reader.text(data)
            case Open():
                reader.open(token)
            case Close(name):
                reader.close(name)
    reader.finish()
    return writer.value()


@dataclass(slots=True)
class _Writer:
    """Joins words to lines: knows which break or gap is due before the next word."""

    parts: list[str] = field(default_factory=list)
    breaks: int = 0
    gap: str = ""
    marker: str = ""
    prefixes: list[str] = field(default_factory=list)
    last_prefix: str = ""
    # What was put since the open link began; None outside links.
    linked: list[str] | None = None

    def words(self, data: str) -> None:
        words = data.split()
        if not words:
            if data:
                self.space()
            return
        if data[0].isspace():
            self.space()
        self.put(" ".join(words))
        if data[-1].isspace():
            self.space()

    def put(self, piece: str) -> None:
        if self.breaks or not self.parts:
            self._begin_line()
        elif self.gap:
            self.parts.append(self.gap)
            if self.linked is not None:
                self.linked.append(self.gap)
        self.gap = ""
        self.parts.append(piece)
        if self.linked is not None:
            self.linked.append(piece)

    def _begin_line(self) -> None:
        prefix = "".join(self.prefixes)
        if self.parts:
            # A blank line between two quotes belongs to both; one beside a quote does not.
            between = _common(self.last_prefix, prefix).rstrip()
            self.parts.append(f"\n{between}" * (self.breaks - 1) + "\n")
        self.parts.append(prefix + self.marker)
        self.last_prefix = prefix
        self.breaks = 0
        self.marker = ""

    def space(self) -> None:
        self.gap = self.gap or " "

    def line(self, count: int = 1) -> None:
        self.breaks = max(self.breaks, count)
        self.gap = ""

    def value(self) -> str:
        lines = "".join(self.parts).split("\n")
        return "\n".join(line.rstrip() for line in lines).strip("\n")


class _Reader:
    """Turns tags into breaks, prefixes and links."""

    def __init__(self, writer: _Writer, originals: Mapping[str, str]) -> None:
        self._writer = writer
        self._originals = originals
        self._hidden: str | None = None
        self._hidden_depth = 0
        self._preformatted = 0
        self._url: str | None = None
        # One entry per open list: the next number, or None for bullets.
        self._lists: list[int | None] = []

    def text(self, data: str) -> None:
        if self._hidden is not None:
            return
        data = data.translate(_DROPPED)
        if self._preformatted:
            self._verbatim(data)
        else:
            self._writer.words(data)

    def open(self, tag: Open) -> None:
        name = tag.name
        if self._hidden is not None:
            self._hidden_depth += name == self._hidden
            return
        if name in _UNSEEN or (tag.source and name not in VOID and _is_hidden(tag)):
            self._hidden, self._hidden_depth = name, 1
            return
        if name in _PARAGRAPHS:
            # A list inside a list item goes on in the next line, without a gap.
            self._writer.line(1 if self._lists and name in {"ul", "ol"} else 2)
        elif name in _LINES:
            self._writer.line()
        elif name in _CELLS:
            self._writer.gap = "  "
        self._begin(tag)

    def close(self, name: str) -> None:
        if self._hidden is not None:
            self._hidden_depth -= name == self._hidden
            if self._hidden_depth == 0:
                self._hidden = None
            return
        self._end(name)
        if name in _PARAGRAPHS:
            self._writer.line(1 if self._lists and name in {"ul", "ol"} else 2)
        elif name in _LINES:
            self._writer.line()

    def finish(self) -> None:
        self._end_link()

    def _begin(self, tag: Open) -> None:
        writer = self._writer
        match tag.name:
            case "br":
                writer.line(min(writer.breaks + 1, 2))
            case "hr":
                writer.put(_RULE)
                writer.line(2)
            case "pre":
                self._preformatted += 1
            case "blockquote" if len(writer.prefixes) < MAX_DEPTH:
                writer.prefixes.append("> ")
            case "ul" | "ol" if len(writer.prefixes) < MAX_DEPTH:
                self._begin_list(tag)
            case "li":
                self._begin_item()
            case "img":
                writer.words(tag.attributes().get("alt", "").translate(_DROPPED))
            case "a":
                self._end_link()
                self._begin_link(tag)
            case _:
                pass

    def _end(self, name: str) -> None:
        match name:
            case "a":
                self._end_link()
            case "pre":
                self._preformatted = max(0, self._preformatted - 1)
            case "blockquote" if "> " in self._writer.prefixes:
                while self._writer.prefixes.pop() != "> ":
                    self._lists.pop()
            case "ul" | "ol" if self._writer.prefixes[-1:] == ["  "]:
                self._writer.prefixes.pop()
                self._lists.pop()
            case _:
                pass

    def _begin_list(self, tag: Open) -> None:
        start = tag.attributes().get("start", "")
        number = int(start) if _START.fullmatch(start) else 1
        self._lists.append(number if tag.name == "ol" else None)
        self._writer.prefixes.append("  ")

    def _begin_item(self) -> None:
        number = self._lists[-1] if self._lists else None
        if number is None:
            self._writer.marker = "- "
        else:
            self._writer.marker = f"{number}. "
            self._lists[-1] = number + 1

    def _begin_link(self, tag: Open) -> None:
        address = tag.attributes().get("href", "")
        address = self._originals.get(address, address)
        url = "".join(address.translate(_DROPPED).split())
        scheme = url.partition(":")[0].lower()
        if url and not url.startswith("#") and scheme not in {"javascript", "data", "vbscript"}:
            self._url = url
            self._writer.linked = []

    def _end_link(self) -> None:
        url, self._url = self._url, None
        if url is None:
            return
        shown = "".join(self._writer.linked or ()).strip()
        self._writer.linked = None
        bare = re.sub(r"^(?:mailto|tel):", "", url, flags=re.IGNORECASE)
        if not shown:
            self._writer.put(bare)
        elif _plain(shown) != _plain(bare):
            trailing, self._writer.gap = self._writer.gap, " "
            self._writer.put(f"({bare})")
            self._writer.gap = trailing

    def _verbatim(self, data: str) -> None:
        data = data.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n")
        first, *others = data.expandtabs().split("\n")
        if first:
            self._writer.put(first)
        for line in others:
            self._writer.line(min(self._writer.breaks + 1, 3))
            if line:
                self._writer.put(line)


def _is_hidden(tag: Open) -> bool:
    if not _MAYBE_HIDDEN.search(tag.source):
        return False
    attributes = tag.attributes()
    style = attributes.get("style", "")
    return "hidden" in attributes or bool(_HIDDEN.search("".join(style.split()).lower()))


def _common(first: str, second: str) -> str:
    length = next((i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), None)
    return first[: min(len(first), len(second)) if length is None else length]


def _plain(url: str) -> str:
    """Reduce a URL to what a reader compares: no scheme, no trailing slash."""
    return re.sub(r"^[a-z]+://", "", url.strip().lower()).rstrip("/")
