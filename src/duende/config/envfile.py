"""Env files: `KEY=VALUE` lines as shells, systemd and container tools write them. Values are taken as they are.

- empty lines and lines that start with `#` are skipped; a leading `export ` is allowed
- unquoted values are trimmed, and ` #` begins a comment
- 'single quotes': everything literal; "double quotes": \\n \\t \\r \\" \\\\ \\$ are escapes; both on one line
- nothing is expanded: a `$` in a secret stays a `$`
"""

from __future__ import annotations

import re

from duende.errors import Problem

__all__ = ["parse_env_file"]

_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\", "$": "$"}
_AFTER_QUOTE = re.compile(r"\s*(#.*)?$")
_COMMENT = re.compile(r"(?:^|\s)#.*$")


def parse_env_file(text: str, *, file: str = "") -> tuple[dict[str, str], list[Problem]]:
    """The variables of `text` (a later line wins), and every line that can't be read. Messages never show values."""
    values: dict[str, str] = {}
    problems: list[Problem] = []
    # Not splitlines(): it also splits at form feeds and Unicode separators, which may be part of a value.
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        try:
            key, value = _assignment(stripped)
        except ValueError as error:
            problems.append(Problem(str(error), file=file, line=number))
            continue
        values[key] = value
    return values, problems


def _assignment(line: str) -> tuple[str, str]:
    if re.match(r"export\s", line):
        line = line[7:].lstrip()
    key, equals, rest = line.partition("=")
    if not equals:
        raise ValueError("is not KEY=VALUE: there is no `=`")
    if not _KEY.fullmatch(key):
        raise ValueError(f"{key.strip()[:40]!r} is not a variable's name (letters, digits and _, no spaces around `=`)")
    value = _value(rest.lstrip())
    if "\0" in value:
        raise ValueError(f"the value of {key} contains a NUL byte")
    return key, value


def _value(text: str) -> str:
    if text[:1] == "'":
        end = text.find("'", 1)
        if end < 0:
            raise ValueError("a single quote is never closed")
        _require_end(text, end + 1)
        return text[1:end]
    if text[:1] == '"':
        return _double_quoted(text)
    return _COMMENT.sub("", text).rstrip()


def _double_quoted(text: str) -> str:
    parts: list[str] = []
    position = 1
    while position < len(text):
        char = text[position]
        if char == '"':
            _require_end(text, position + 1)
            return "".join(parts)
        if char == "\\" and text[position + 1 : position + 2] in _ESCAPES and position + 1 < len(text):
            parts.append(_ESCAPES[text[position + 1]])
            position += 2
            continue
        parts.append(char)
        position += 1
    raise ValueError("a double quote is never closed")


def _require_end(text: str, position: int) -> None:
    if not _AFTER_QUOTE.match(text, position):
        raise ValueError("there is text after the closing quote")
