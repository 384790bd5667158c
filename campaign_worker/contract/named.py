"""Named parameters of SQL: `:ids` in a contract's statement becomes `$1::uuid[]` for the driver.

Knows where SQL may hold a colon that is none of ours: texts, comments, names, casts. Runs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""
      (?P<text>    (?<![\w$])[eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | "(?:[^"]|"")*" )
    | (?P<line>    --[^\n]* )
    | (?P<block>   /\* )
    | (?P<dollar>  (?<![\w$])\$(?P<tag>(?:[A-Za-z_]\w*)?)\$ )
    | (?P<cast>    ::|:= )
    | (?P<number>  (?<![\w$])\$[0-9]+ )
    | :(?P<name>[A-Za-z_]\w*)
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")


class BadStatement(ValueError):
    """What a statement may not hold; `offset` is where, in characters."""

    def __init__(self, problem: str, offset: int) -> None:
        super().__init__(problem)
        self.problem = problem
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Numbered:
    """A statement as the driver takes it; `names` are its parameters in the order of their numbers.

    `edits` are (place in `sql`, place in the source) behind each parameter that was put in.
    """

    sql: str
    names: tuple[str, ...]
    edits: tuple[tuple[int, int], ...]

    def source_offset(self, position: int) -> int:
        """Place in the source of a character of `sql`, both counted from 0."""
        place = position
        for ours, theirs in self.edits:
            if position < ours:
                break
            place = theirs + position - ours
        return place


def numbered(source: str, types: Mapping[str, str]) -> Numbered:
    """Replace each `:name` by its number and type. Raises BadStatement."""
    parts: list[str] = []
    names: list[str] = []
    edits: list[tuple[int, int]] = []
    done = length = 0
    at = 0
    while (found := _TOKEN.search(source, at)) is not None:
        at = _end_of(source, found)
        if found["number"] is not None:
            raise BadStatement(f"{found.group()} has no meaning here: use names", found.start())
        name = found["name"]
        if name is None:
            continue
        if name not in types:
            known = ", ".join(f":{one}" for one in types)
            raise BadStatement(
                f":{name} is no parameter of this statement ({known})", found.start()
            )
        if name not in names:
            names.append(name)
        text = source[done : found.start()] + f"${names.index(name) + 1}::{types[name]}"
        parts.append(text)
        length += len(text)
        done = found.end()
        edits.append((length, done))
    return Numbered("".join([*parts, source[done:]]), tuple(names), tuple(edits))


def _end_of(source: str, found: re.Match[str]) -> int:
    if found["dollar"] is not None:
        end = source.find(found.group(), found.end())
        return len(source) if end < 0 else end + len(found.group())
    if found["block"] is not None:
        return _end_of_comment(source, found.end())
    return found.end()


def _end_of_comment(source: str, at: int) -> int:
    """Comments nest in Postgres."""
    depth = 1
    while depth and (edge := _COMMENT_EDGE.search(source, at)) is not None:
        depth += 1 if edge.group() == "/*" else -1
        at = edge.end()
    return at if depth == 0 else len(source)
