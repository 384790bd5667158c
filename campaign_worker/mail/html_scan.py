"""A scanner for HTML: texts and tags of whatever it is given, with their places, in linear time.

Never raises and never looks at a character more than a few times; html.parser of the supported
Pythons is quadratic on unclosed tags and raises AssertionError on marked sections.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from html.entities import html5

_TAG_START = re.compile(r"</?([a-zA-Z][^\s/>]*+)")
# Possessive and atomic, so that a failure costs one pass and no backtracking. Quotes count only
# where a value begins (HTML standard, 13.2.5.37); anywhere else they are part of a name.
_TAG_REST = re.compile(r"""(?>[^>="']+|["']|=\s*+(?:"[^"]*+"|'[^']*+'|(?!["'])))*+>""")
_ATTRIBUTE = re.compile(
    r"""([^\s=>"'/]++)\s*+(?:=\s*+(?:"([^"]*+)"?|'([^']*+)'?|([^\s"'>]++)))?+"""
)
VOID = frozenset({
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track",
    "wbr",
})  # fmt: skip
"""Elements without content: they are never closed."""

_RAW_END = {
    name: re.compile(f"</{name}(?=[\\s/>])", re.IGNORECASE)
    for name in ("script", "style", "title", "textarea", "iframe", "noembed", "noframes", "xmp")
}
# Its content has no end, and like that of xmp it is shown as it is.
_PLAINTEXT = "plaintext"
_SHOWN_RAW = {"xmp", _PLAINTEXT}
_REFERENCE = re.compile(r"&(?:#[0-9]++;?|#[xX][0-9a-fA-F]++;?|([A-Za-z][A-Za-z0-9]*+)(;|=)?)")


@dataclass(frozen=True, slots=True)
class Text:
    """Character data, entities decoded, whitespace as it stood."""

    data: str


@dataclass(frozen=True, slots=True)
class Value:
    """An attribute's undecoded value, from `start` to `end`; `quote` is empty for a bare one."""

    name: str
    start: int
    end: int
    quote: str


@dataclass(frozen=True, slots=True)
class Open:
    """An opening tag; `name` is lower case, `source` its undecoded attributes, from `start` on."""

    name: str
    source: str
    start: int

    def attributes(self) -> dict[str, str]:
        """Lower-case names to decoded values; the first of equal names wins (HTML standard)."""
        found: dict[str, str] = {}
        for name, double, single, bare in _ATTRIBUTE.findall(self.source):
            found.setdefault(name.lower(), unescape_value(double or single or bare))
        return found

    def values(self) -> Iterator[Value]:
        """Yield the values that end where they should, with their places in what was scanned."""
        for found in _ATTRIBUTE.finditer(self.source):
            if found.lastindex is None or found.lastindex == 1:
                continue
            quote = {2: '"', 3: "'"}.get(found.lastindex, "")
            start, end = found.span(found.lastindex)
            after = self.source[end : end + 1]
            if after == quote if quote else not after.strip():
                yield Value(found[1].lower(), self.start + start, self.start + end, quote)


@dataclass(frozen=True, slots=True)
class Close:
    """A closing tag, whose `<` is at `start`; `name` is lower case."""

    name: str
    start: int


def unescape(text: str) -> str:
    """Decode character references; one whose number is absurdly long leaves the text as it is."""
    if "&" not in text:
        return text
    try:
        return html.unescape(text)
    except ValueError:
        return text


def unescape_value(text: str) -> str:
    """Decode the character references of an attribute's value.

    There `&copy=1` is no reference: without its semicolon a name counts only where neither a
    letter, a digit nor = follows (HTML standard, 13.2.5.73).
    """
    return _REFERENCE.sub(_referred, text) if "&" in text else text


def _referred(found: re.Match[str]) -> str:
    name, after = found[1], found[2]
    if name is None:
        return unescape(found[0])
    if after == ";" and f"{name};" in html5:
        return html5[f"{name};"]
    if after is None and name in html5:
        return html5[name]
    return found[0]


def scan(source: str) -> Iterator[Text | Open | Close]:
    """Yield the tokens of any text. Comments, declarations, scripts and styles are left out."""
    position = start = 0
    balanced = True
    while (position := source.find("<", position)) >= 0:
        match = _TAG_START.match(source, position)
        if match is None:
            end = _markup_end(source, position)
            if end == position:
                position += 1
                continue
            yield from _text(source[start:position])
            start = position = end
            continue
        yield from _text(source[start:position])
        end, balanced = _tag_end(source, match.end(), balanced=balanced)
        name = match[1].lower()
        if source[position + 1] == "/":
            yield Close(name, position)
        else:
            yield Open(name, source[match.end() : end - 1], match.end())
            start, end = end, _raw_end(source, name, end)
            if name in _SHOWN_RAW and start < end:
                yield Text(source[start:end])
        start = position = end
    yield from _text(source[start:])


def _text(data: str) -> Iterator[Text]:
    if data:
        yield Text(unescape(data))


def _markup_end(source: str, position: int) -> int:
    """Where a comment, declaration or instruction ends; `position` for a bare '<'."""
    if source.startswith("<!--", position):
        # `<!-->` is a whole comment (HTML standard, 13.2.5.43).
        end = source.find("-->", position + 2)
        return len(source) if end < 0 else end + 3
    if source.startswith(("<!", "<?", "</"), position):
        end = source.find(">", position + 2)
        return len(source) if end < 0 else end + 1
    return position


def _tag_end(source: str, position: int, *, balanced: bool) -> tuple[int, bool]:
    """Where a tag ends, and whether quotes can still be trusted.

    The first tag whose quotes run to the end of the text ends that trust: were it tried again for
    each tag, the time would be quadratic.
    """
    if balanced:
        match = _TAG_REST.match(source, position)
        if match is not None:
            return match.end(), True
    end = source.find(">", position)
    return (len(source) + 1 if end < 0 else end + 1), False


def _raw_end(source: str, name: str, position: int) -> int:
    """Skip the content of elements that hold no mark-up; what is not closed goes to the end."""
    if name == _PLAINTEXT:
        return max(position, len(source))
    pattern = _RAW_END.get(name)
    if pattern is None:
        return position
    match = pattern.search(source, position)
    return len(source) if match is None else match.start()
