"""A template's source with what belongs to Jinja2 hidden, so that the HTML around it can be read.

Every character keeps its place: an offset in the mask is an offset in the source.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field

import jinja2


class Kind(enum.IntEnum):
    """What a character of a template's source is."""

    DATA = 0
    EXPRESSION = 1
    TAG = 2
    RAW = 3
    CAPTURED = 4


_ENDS = {"variable_end", "block_end", "comment_end"}
_HIDDEN = {
    "variable_begin": Kind.EXPRESSION,
    "block_begin": Kind.TAG,
    "comment_begin": Kind.TAG,
}


@dataclass(frozen=True, slots=True)
class Mask:
    """A source's `text`, expressions as letters and tags as blanks, and each character's `kinds`.

    RAW is data between raw and endraw. CAPTURED is data that a filter or an assignment takes: what
    it becomes, nobody can tell.
    """

    text: str
    kinds: bytes

    def plain(self, start: int, end: int) -> bool:
        """Whether all of it is data of one kind."""
        piece = self.kinds[start:end]
        return piece.count(piece[:1]) == len(piece) and piece[:1] in _PLAIN

    def has_tag(self, start: int, end: int) -> bool:
        """Whether a tag or a comment of Jinja2 lies there, wholly or in part."""
        return Kind.TAG in self.kinds[max(start, 0) : end]


_PLAIN = {bytes((Kind.DATA,)), bytes((Kind.RAW,)), b""}


def masked(source: str, environment: jinja2.Environment) -> Mask:
    """Mask a template's source. Raises jinja2.TemplateSyntaxError where Jinja2's own lexer does."""
    painter = _Painter()
    # The lexer turns every line break into LF; this does the same without moving anything.
    even = source.replace("\r\n", " \n").replace("\r", "\n")
    for name, start, end in _placed(environment, even):
        painter.token(name, even[start:end])
    painter.data(even[sum(map(len, painter.pieces)) :])
    return Mask("".join(painter.pieces), b"".join(painter.kinds))


def _placed(environment: jinja2.Environment, source: str) -> Iterator[tuple[str, int, int]]:
    """Yield the lexer's tokens with their places; what `{%-` strips is one as well."""
    position = 0
    for _, name, value in environment.lex(source):
        start = position
        while not source.startswith(value, position):
            position += 1
        if position > start:
            yield "stripped", start, position
        yield name, position, position + len(value)
        position += len(value)


@dataclass(slots=True)
class _Painter:
    """Hides token after token; knows which blocks are open that capture their data."""

    pieces: list[str] = field(default_factory=list)
    kinds: list[bytes] = field(default_factory=list)
    hiding: Kind | None = None
    raw: bool = False
    captures: int = 0
    words: list[str] = field(default_factory=list)

    def token(self, name: str, text: str) -> None:
        if name in _HIDDEN:
            self.hiding = _HIDDEN[name]
            self.words = []
        if self.hiding is not None:
            if name in {"name", "operator"}:
                self.words.append(text)
            self._put(text, self.hiding)
        elif name == "stripped":
            self._put(text, Kind.TAG)
        elif name in {"raw_begin", "raw_end"}:
            self.raw = name == "raw_begin"
            self._put(text, Kind.TAG)
        else:
            self.data(text)
        if name in _ENDS:
            self.hiding = None
            if name == "block_end":
                self._block()

    def data(self, text: str) -> None:
        if self.captures:
            self._put(text, Kind.CAPTURED)
        else:
            self._put(text, Kind.RAW if self.raw else Kind.DATA)

    def _put(self, text: str, kind: Kind) -> None:
        hidden = {Kind.EXPRESSION: "x", Kind.TAG: " "}.get(kind)
        self.pieces.append(text if hidden is None else hidden * len(text))
        self.kinds.append(bytes((kind,)) * len(text))

    def _block(self) -> None:
        match self.words:
            case ["filter", *_]:
                self.captures += 1
            case ["set", *rest] if not _assigns(rest):
                self.captures += 1
            case ["endfilter" | "endset", *_]:
                self.captures -= 1
            case _:
                pass


def _assigns(words: list[str]) -> bool:
    """Tell `set a = b` from `set a` and from `set a | f(b=c)`, whose data is captured."""
    return next((word for word in words if word in {"=", "|"}), "") == "="
