"""A scanner for HTML: texts, opening and closing tags of whatever it is given, in linear time.

Never raises and never looks at a character more than a few times; html.parser of the supported
Pythons is quadratic on unclosed tags and raises AssertionError on marked sections.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass

_TAG_START = re.compile(r"</?([a-zA-Z][^\s/>]*+)")
# Possessive and atomic, so that a failure costs one pass and no backtracking.
_TAG_REST = re.compile(r"""(?>[^>"']+|"[^"]*"|'[^']*')*+>""")
_ATTRIBUTE = re.compile(
    r"""([^\s=>"'/]++)\s*+(?:=\s*+(?:"([^"]*+)"?|'([^']*+)'?|([^\s"'>]++)))?+"""
)
_RAW_END = {name: re.compile(f"</{name}", re.IGNORECASE) for name in ("script", "style", "title")}


@dataclass(frozen=True, slots=True)
class Text:
    """Character data, entities decoded, whitespace as it stood."""

    data: str


@dataclass(frozen=True, slots=True)
class Open:
    """An opening tag; `name` is lower case, `source` its undecoded attributes."""

    name: str
    source: str

    def attributes(self) -> dict[str, str]:
        """Lower-case names to decoded values; the first of equal names wins (HTML standard)."""
        found: dict[str, str] = {}
        for name, double, single, bare in _ATTRIBUTE.findall(self.source):
            found.setdefault(name.lower(), unescape(double or single or bare))
        return found


@dataclass(frozen=True, slots=True)
class Close:
    """A closing tag; `name` is lower case."""

    name: str


def unescape(text: str) -> str:
    """Decode character references; one whose number is absurdly long leaves the text as it is."""
    if "&" not in text:
        return text
    try:
        return html.unescape(text)
    except ValueError:
        return text


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
            yield Close(name)
        else:
            yield Open(name, source[match.end() : end - 1])
            end = _raw_end(source, name, end)
        start = position = end
    yield from _text(source[start:])


def _text(data: str) -> Iterator[Text]:
    if data:
        yield Text(unescape(data))


def _markup_end(source: str, position: int) -> int:
    """Where a comment, declaration or instruction ends; `position` for a bare '<'."""
    if source.startswith("<!--", position):
        end = source.find("-->", position + 4)
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
    pattern = _RAW_END.get(name)
    if pattern is None:
        return position
    match = pattern.search(source, position)
    return len(source) if match is None else match.start()
