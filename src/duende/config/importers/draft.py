"""What an importer makes: drafts of daemons, each value with the place it came from, and all that was left behind.

Text in a draft is what the program shall get, literally. Where the other tool has a variable or an instance's number,
the text holds duende's spelling of it between two marks, made by `variable` and `INSTANCE`; write.py escapes everything
else. The marks are Unicode noncharacters, which no file may contain (Unicode 15, chapter 23.7).
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from duende.config.paths import is_name, sanitized_name
from duende.errors import ConfigurationError, Problem

__all__ = [
    "INSTANCE",
    "MARKED",
    "ONE_WORD",
    "RESERVED",
    "Draft",
    "Findings",
    "Origin",
    "Place",
    "Sheet",
    "hidden",
    "plain_of",
    "refuse",
    "spelled",
    "split_marked",
    "variable",
]

_OPEN, _CLOSE = "\ufdd0", "\ufdd1"
MARKED = re.compile(f"{_OPEN}([^{_OPEN}{_CLOSE}]*){_CLOSE}")
ONE_WORD = "what a variable holds stays one word; the other tool splits it at blanks"
RESERVED = re.compile("[\ufdd0-\ufdd2]")  # the third is for `hidden`
INSTANCE = f"{_OPEN}{{instance}}{_CLOSE}"
_UNFIT = re.compile("[\0\ud800-\udfff]")  # neither an argument vector nor TOML can hold them


class Origin(NamedTuple):
    """Where in the other tool's file something stands. Line 0: nowhere in particular."""

    file: str
    line: int = 0
    key: str = ""


@dataclass(slots=True)
class Findings:
    """What can't be carried over, and what is carried over but means something a little different."""

    dropped: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)

    def drop(self, at: Origin, reason: str, hint: str = "") -> None:
        """Name a construct that is lost."""
        self.dropped.append(Problem(reason, file=at.file, line=at.line, key=at.key, hint=hint))

    def note(self, at: Origin, reason: str, hint: str = "") -> None:
        """Name a difference that loses nothing."""
        self.notes.append(Problem(reason, file=at.file, line=at.line, key=at.key, hint=hint))


class Draft:
    """One future `[daemon.NAME]`. `values` maps key paths to a value and its origin.

    `scope` is how the keys of its origins begin.
    """

    __slots__ = ("at", "findings", "name", "scope", "values")

    def __init__(self, name: str, at: Origin, findings: Findings) -> None:
        self.name = name if is_name(name) else sanitized_name(name)
        if self.name != name:
            findings.note(at, f"is named {self.name}: duende's names are letters, digits and _ . @ -")
        self.at = at
        self.scope = at.key
        self.findings = findings
        self.values: dict[tuple[str, ...], tuple[Any, Origin]] = {}

    def put(self, at: Origin, value: Any, *path: str) -> None:
        """Set the value at a key path, later ones win; text that no program can be given is named and left out."""
        if value is None or any(item is None for item in _leaves(value)):
            self.findings.drop(at, "has no value")
            return
        if any(isinstance(item, str) and _UNFIT.search(item) for item in _leaves(value)):
            self.findings.drop(at, "contains a NUL byte or half of a surrogate pair, which no program can be given")
            return
        if any(isinstance(item, str) and f"{{{INSTANCE}}}" in item for item in _leaves(value)):
            self.findings.drop(at, "has the instance's number in braces, and {{instance}} is no number in duende")
            return
        self.values[path] = (value, at)

    def get(self, *path: str) -> Any:
        """The value at a key path; None when there is none."""
        return self.values.get(path, (None,))[0]

    def put_env(self, at: Origin, variables: Mapping[str, str]) -> None:
        """Set variables."""
        for name, value in variables.items():
            self.put(Origin(at.file, at.line, f"{at.key}.{name}" if at.key else name), value, "env", name)


@dataclass(frozen=True, slots=True)
class Place:
    """The file that is read, and whether duende.toml will stand in the same folder."""

    file: str  # as the user named it
    folder: str  # absolute
    is_home: bool

    def path(self, text: str) -> str:
        """A path of the other file, right for duende.toml as well."""
        return text if self.is_home or text.startswith((_OPEN, "/", "~")) else os.path.join(self.folder, text)

    def at(self, line: int = 0, key: str = "") -> Origin:
        """A place in it."""
        return Origin(self.file, line, key)


@dataclass(slots=True)
class Sheet:
    """What was read from one file. `head` are sentences for the top of duende.toml."""

    at: Origin
    drafts: list[Draft] = field(default_factory=list)
    head: list[str] = field(default_factory=list)
    stack_name: str = ""


def variable(expression: str) -> str:
    """`NAME` or `NAME:-default` as a variable of duende's, for use inside of text."""
    return f"{_OPEN}${{{expression}}}{_CLOSE}"


def spelled(text: str, *, is_numbered: bool) -> str:
    """`text` as it stands in duende.toml; `is_numbered` where `{instance}` has a meaning."""
    parts = MARKED.split(text)  # literal, marked, literal, …
    if len(parts) > 1 or "$$" in text or "${" in text:
        parts[::2] = [part.replace("$", "$$") for part in parts[::2]]
    if is_numbered:
        parts[::2] = [part.replace("{instance}", "{{instance}}") for part in parts[::2]]
    return "".join(parts)


def hidden(text: str) -> tuple[str, Callable[[str], str]]:
    """`text` with each marked part as one word that no parser takes apart, and what puts the parts back."""
    parts = [match[0] for match in MARKED.finditer(text)]
    numbers = iter(range(len(parts)))
    plain = MARKED.sub(lambda _: f"\ufdd2{next(numbers)}\ufdd2", text)
    return plain, lambda piece: re.sub("\ufdd2([0-9]+)\ufdd2", lambda match: parts[int(match[1])], piece)


def split_marked(text: str) -> list[str]:
    """Split as a shell does; a variable stays one word with what touches it, whatever it holds. ValueError."""
    plain, shown = hidden(text)
    return [shown(word) for word in shlex.split(plain)]


def plain_of(text: str) -> str:
    """`text` for people: the marks gone."""
    return MARKED.sub(r"\1", text)


def refuse(at: Origin, reason: str, hint: str = "") -> ConfigurationError:
    """The error of a file that can't be imported at all."""
    return ConfigurationError([Problem(reason, file=at.file, line=at.line, key=at.key, hint=hint)])


def _leaves(value: object) -> list[object]:
    """What is in lists and tables, at any depth."""
    match value:
        case list() | tuple():
            return [leaf for item in value for leaf in _leaves(item)]
        case Mapping():
            return [leaf for item in value.items() for leaf in _leaves(item)]
        case _:
            return [value]
