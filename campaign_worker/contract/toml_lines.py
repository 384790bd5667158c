"""Where keys and values stand in a TOML text, by line: tomllib says what they are, not where.

Reads only texts that tomllib has taken (TOML 1.0), so it need not find faults itself.
"""

from __future__ import annotations

import re
import tomllib

Path = tuple[str | int, ...]

_SPACE = re.compile(r"[ \t\r\n]*(?:#[^\n]*[ \t\r\n]*)*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_BLANK = re.compile(r"[ \t]*")
_PLAIN_VALUE = re.compile(r"[^,\]}\s#]+(?: [0-9][^,\]}\s#]*)?")
_BASIC = re.compile(r'"(?:[^"\\]|\\.)*"')
_LITERAL = re.compile(r"'[^']*'")
_LONG_BASIC = re.compile(r'"""(?:[^\\]|\\.)*?"{3,5}', re.DOTALL)
_LONG_LITERAL = re.compile(r"'''.*?'{3,5}", re.DOTALL)
_STRINGS = (_LONG_BASIC, _LONG_LITERAL, _BASIC, _LITERAL)


class TomlLines:
    """Positions of one text. Paths hold keys, and indexes of arrays."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._keys: dict[Path, int] = {(): 0}
        self._values: dict[Path, int] = {}
        self._tables: dict[Path, int] = {}
        self._walk()

    def line(self, path: Path) -> int:
        """Line of a key, or of the nearest table around it that is there; lines count from 1."""
        while path not in self._keys:
            path = path[:-1]
        return self._line_of(self._keys[path])

    def line_within(self, path: Path, value: str, offset: int) -> int:
        """Line of a character of a text value; the key's own line where that cannot be told."""
        start = self._values.get(path)
        at = -1 if start is None else self._text.find(value, start)
        if start is None or at < 0 or "\n" not in value:
            return self.line(path)
        return self._line_of(at + min(max(offset, 0), len(value)))

    def _line_of(self, position: int) -> int:
        return self._text.count("\n", 0, position) + 1

    def _walk(self) -> None:
        table: Path = ()
        self._skip(_SPACE)
        while self._at < len(self._text):
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)
            self._skip(_SPACE)

    def _header(self) -> Path:
        start = self._at
        array = self._text.startswith("[[", self._at)
        self._at += 2 if array else 1
        path = self._real(self._key())
        self._at = self._text.index("]", self._at) + (2 if array else 1)
        if array:
            index = self._tables.get(path, -1) + 1
            self._tables[path] = index
            self._keys.setdefault(path, start)
            path = (*path, index)
        self._note(path, start)
        return path

    def _real(self, keys: Path) -> Path:
        """Give the path of a header; below an array of tables it means the array's last one."""
        path: Path = ()
        for place, key in enumerate(keys):
            path = (*path, key)
            if place < len(keys) - 1 and path in self._tables:
                path = (*path, self._tables[path])
        return path

    def _pair(self, table: Path) -> None:
        start = self._at
        path = (*table, *self._key())
        self._note(path, start)
        self._at = self._text.index("=", self._at) + 1
        self._skip(_SPACE)
        self._value(path)

    def _note(self, path: Path, start: int) -> None:
        for length in range(1, len(path) + 1):
            self._keys.setdefault(path[:length], start)
        self._keys[path] = start

    def _key(self) -> Path:
        parts: list[str] = []
        while True:
            self._skip(_BLANK)
            bare = _BARE_KEY.match(self._text, self._at)
            if bare is not None:
                parts.append(bare.group())
                self._at = bare.end()
            else:
                start = self._at
                self._string()
                parts.append(tomllib.loads(f"k = {self._text[start : self._at]}")["k"])
            self._skip(_BLANK)
            if not self._text.startswith(".", self._at):
                return tuple(parts)
            self._at += 1

    def _value(self, path: Path) -> None:
        self._values[path] = self._at
        match self._text[self._at]:
            case '"' | "'":
                self._string()
            case "[":
                self._array(path)
            case "{":
                self._inline_table(path)
            case _:
                self._skip(_PLAIN_VALUE)

    def _array(self, path: Path) -> None:
        self._at += 1
        index = 0
        self._skip(_SPACE)
        while self._text[self._at] != "]":
            self._note((*path, index), self._at)
            self._value((*path, index))
            index += 1
            self._comma()
        self._at += 1

    def _inline_table(self, path: Path) -> None:
        self._at += 1
        self._skip(_SPACE)
        while self._text[self._at] != "}":
            self._pair(path)
            self._comma()
        self._at += 1

    def _comma(self) -> None:
        self._skip(_SPACE)
        if self._text[self._at] == ",":
            self._at += 1
            self._skip(_SPACE)

    def _string(self) -> None:
        for pattern in _STRINGS:
            found = pattern.match(self._text, self._at)
            if found is not None:
                self._at = found.end()
                return
        raise AssertionError("tomllib has taken this text")

    def _skip(self, pattern: re.Pattern[str]) -> None:
        found = pattern.match(self._text, self._at)
        if found is not None:
            self._at = found.end()
