"""Where each key of a TOML document is: key path to line number. tomllib keeps no positions, so this reads again.

Used only when there is an error to report, on text that tomllib has accepted: it finds keys and skips values, and
never judges. A path is a tuple of keys, with an index for each item of an array: `("daemon", "web", "args", 0)`.
A table's line is that of its first header, or of the first key that implies it.
"""

from __future__ import annotations

import re
from bisect import bisect_right

__all__ = ["KeyPath", "line_of", "positions"]

KeyPath = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")  # between lines and inside arrays
_SPACE = re.compile(r"[ \t]*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_BASIC_STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_LITERAL_STRING = re.compile(r"'[^'\n]*'")
# Up to two quotes may stand before the closing three.
_LONG_BASIC = re.compile(r'"""(?:[^"\\]|\\.|"{1,2}(?!"))*"{3,5}', re.DOTALL)
_LONG_LITERAL = re.compile(r"'''(?:[^']|'{1,2}(?!'))*'{3,5}")
_SCALAR = re.compile(r"[^,\]}#\n]+")
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))", re.DOTALL)
_ESCAPED = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", '"': '"', "\\": "\\"}


def positions(text: str) -> dict[KeyPath, int]:
    """The 1-based line of every key path of a valid TOML document."""
    return _Scanner(text).scan()


def line_of(lines: dict[KeyPath, int], path: KeyPath) -> int:
    """The line of `path`, or of the nearest table around it; 0 when even its first key is not in this document."""
    while path:
        if path in lines:
            return lines[path]
        path = path[:-1]
    return 0


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.lines: dict[KeyPath, int] = {}
        self.array_lengths: dict[KeyPath, int] = {}  # of arrays of tables
        self.newlines = [match.start() for match in re.finditer("\n", text)]

    def scan(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        while True:
            self._skip(_BLANK)
            if self.position >= len(self.text):
                return self.lines
            if self.text[self.position] == "[":
                table = self._header()
            else:
                self._assignment(table)

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self.text, self.position)
        if match is None:
            raise AssertionError(f"no valid TOML at offset {self.position}")  # tomllib would have refused it
        self.position = match.end()

    def _mark(self, path: KeyPath, offset: int) -> None:
        if path not in self.lines:
            self.lines[path] = bisect_right(self.newlines, offset - 1) + 1

    def _header(self) -> KeyPath:
        start = self.position
        is_array = self.text.startswith("[[", start)
        self.position += 2 if is_array else 1
        parts = self._key()
        self.position += 2 if is_array else 1
        path: KeyPath = ()
        for number, part in enumerate(parts):
            path = (*path, part)
            self._mark(path, start)
            is_last = number == len(parts) - 1
            if path in self.array_lengths and not (is_last and is_array):
                path = (*path, self.array_lengths[path] - 1)  # a header speaks of the array's newest table
        if is_array:
            index = self.array_lengths.get(path, 0)
            self.array_lengths[path] = index + 1
            path = (*path, index)
            self._mark(path, start)
        return path

    def _key(self) -> list[str]:
        """A key with its dots, and the blanks around it."""
        parts = []
        while True:
            self._skip(_SPACE)
            start = self.position
            char = self.text[start]
            if char == '"':
                self._skip(_BASIC_STRING)
                parts.append(_unescaped(self.text[start + 1 : self.position - 1]))
            elif char == "'":
                self._skip(_LITERAL_STRING)
                parts.append(self.text[start + 1 : self.position - 1])
            else:
                self._skip(_BARE_KEY)
                parts.append(self.text[start : self.position])
            self._skip(_SPACE)
            if not self.text.startswith(".", self.position):
                return parts
            self.position += 1

    def _assignment(self, table: KeyPath) -> None:
        start = self.position
        path = table
        for part in self._key():
            path = (*path, part)
            self._mark(path, start)
        self.position += 1  # the equals sign
        self._skip(_SPACE)
        self._value(path)

    def _value(self, path: KeyPath) -> None:
        text, start = self.text, self.position
        if text.startswith('"""', start):
            self._skip(_LONG_BASIC)
        elif text.startswith("'''", start):
            self._skip(_LONG_LITERAL)
        elif text[start] == '"':
            self._skip(_BASIC_STRING)
        elif text[start] == "'":
            self._skip(_LITERAL_STRING)
        elif text[start] == "[":
            self._array(path)
        elif text[start] == "{":
            self._inline_table(path)
        else:
            self._skip(_SCALAR)

    def _array(self, path: KeyPath) -> None:
        self.position += 1
        index = 0
        while True:
            self._skip(_BLANK)
            if self.text[self.position] == "]":
                self.position += 1
                return
            item = (*path, index)
            self._mark(item, self.position)
            self._value(item)
            index += 1
            self._skip(_BLANK)
            if self.text[self.position] == ",":
                self.position += 1

    def _inline_table(self, path: KeyPath) -> None:
        self.position += 1
        while True:
            self._skip(_BLANK)
            char = self.text[self.position]
            if char == "}":
                self.position += 1
                return
            if char == ",":
                self.position += 1
            else:
                self._assignment(path)
            self._skip(_SPACE)


def _unescaped(text: str) -> str:
    if "\\" not in text:
        return text

    def character(match: re.Match[str]) -> str:
        digits = match.group(1) or match.group(2)
        return chr(int(digits, 16)) if digits else _ESCAPED[match.group(3)]

    return _ESCAPE.sub(character, text)
