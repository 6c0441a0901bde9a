"""systemd's unit files: lines, continuations, drop-ins, quoting, specifiers, times and sizes.

Facts: systemd.syntax(7), systemd.unit(5) "Specifiers", systemd.service(5) "Command lines", systemd.time(7) of
systemd 255.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from duende.config.files import read_config_file
from duende.config.importers.draft import INSTANCE, Origin, Place, refuse, variable

__all__ = ["Setting", "Unit", "boolean", "load_unit", "parse_unit", "size_bytes", "span_s", "split_words"]


class Setting(NamedTuple):
    """One assignment, in the order of the files."""

    section: str
    key: str
    value: str
    at: Origin


@dataclass(slots=True)
class Unit:
    """A unit with its drop-ins. An empty assignment has reset what stood before it."""

    name: str  # file name
    is_user: bool  # of a user's manager
    settings: list[Setting] = field(default_factory=list)

    @property
    def stem(self) -> str:
        return self.name.rpartition(".")[0]

    @property
    def prefix(self) -> str:
        return self.stem.partition("@")[0]

    @property
    def is_template(self) -> bool:
        return self.stem.endswith("@")

    @property
    def instance(self) -> str:
        """What is behind the @; of a template its DefaultInstance, else the number of duende's instance."""
        if not self.is_template:
            return self.stem.partition("@")[2]
        default = self.last("Install", "DefaultInstance")
        return default.value if default else INSTANCE

    def all(self, section: str, *keys: str) -> list[Setting]:
        return [one for one in self.settings if one.section == section and one.key in keys]

    def last(self, section: str, key: str) -> Setting | None:
        found = self.all(section, key)
        return found[-1] if found else None

    def expand(self, text: str) -> str:
        """`%n` and the like replaced; ValueError for those that have no counterpart."""
        return re.sub(r"%(.?)", lambda match: self._specifier(match[1]), text)

    def _specifier(self, letter: str) -> str:
        instance = self.instance
        words = {
            "%": "%", "n": self.name, "N": self.stem, "p": self.prefix, "i": instance, "I": _unescaped(instance),
            "j": self.prefix.rpartition("-")[2], "T": "/tmp", "V": "/var/tmp", "H": os.uname().nodename,
            "l": os.uname().nodename.partition(".")[0], "v": os.uname().release,
            "f": "/" + _unescaped(instance or self.prefix), "J": _unescaped(self.prefix.rpartition("-")[2]),
        }  # fmt: skip
        if self.is_user:
            home = variable("HOME")
            words |= {"h": home, "t": variable("XDG_RUNTIME_DIR"), "u": variable("USER"), "E": f"{home}/.config",
                      "S": f"{home}/.local/state", "C": f"{home}/.cache", "L": f"{home}/.local/state/log"}  # fmt: skip
        else:
            words |= {"h": "/root", "t": "/run", "u": "root", "U": "0", "g": "root", "G": "0", "s": "/bin/sh",
                      "E": "/etc", "S": "/var/lib", "C": "/var/cache", "L": "/var/log"}  # fmt: skip
        if letter not in words:
            raise ValueError(f"the specifier %{letter} has no counterpart")
        return words[letter]


def load_unit(text: str, place: Place) -> Unit:
    """A unit file with its drop-ins (`NAME.d/*.conf` beside it; of an instance, those of its template first)."""
    name = os.path.basename(place.file)
    unit = Unit(name, "/user/" in f"{place.folder}/")
    folders = [f"{name}.d"]
    if "@" in name and not name.partition("@")[2].startswith("."):
        folders.insert(0, f"{name.partition('@')[0]}@.{name.rpartition('.')[2]}.d")
    settings = list(parse_unit(text, place.file))
    for folder in folders:
        path = os.path.join(place.folder, folder)
        for inner in sorted(os.listdir(path)) if os.path.isdir(path) else ():
            if inner.endswith(".conf"):
                shown = os.path.join(os.path.dirname(place.file), folder, inner)
                settings += parse_unit(read_config_file(os.path.join(path, inner)), shown)
    for one in settings:
        if one.value:
            unit.settings.append(one)
        else:
            unit.settings = [old for old in unit.settings if (old.section, old.key) != (one.section, one.key)]
    return unit


def parse_unit(text: str, file: str) -> Iterator[Setting]:
    """The assignments of one file."""
    section, start, joined = "", 0, ""
    for number, raw in enumerate([*text.split("\n"), ""], 1):
        line = raw.strip()
        if line[:1] in ("#", ";") or (not line and not joined):
            continue  # comments are allowed between continued lines
        start = start if joined else number
        if line.endswith("\\"):
            joined += line[:-1] + " "
            continue
        line, joined = (joined + line).strip(), ""
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
            continue
        key, equals, value = line.partition("=")
        if not equals or not section:
            raise refuse(Origin(file, start), f"is not KEY=VALUE in a [section]: {line[:60]!r}")
        name = key.strip()
        yield Setting(section, name, value.strip(), Origin(file, start, f"[{section}] {name}"))


_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", '"': '"',
            "'": "'", "s": " "}  # fmt: skip
_CODE = re.compile(r"x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})")


def split_words(text: str) -> list[str]:
    """Words with systemd's quotes and escapes; ValueError."""
    words: list[str] = []
    word: str | None = None
    quote, position = "", 0
    while position < len(text):
        char = text[position]
        position += 1
        if char == "\\":
            piece, position = _escape(text, position)
            word = (word or "") + piece
        elif quote:
            word, quote = ((word or ""), "") if char == quote else ((word or "") + char, quote)
        elif char in "\"'":
            word, quote = word or "", char
        elif char in " \t\n\r":
            words += [] if word is None else [word]
            word = None
        else:
            word = (word or "") + char
    if quote:
        raise ValueError("a quote is never closed")
    return [*words, *([] if word is None else [word])]


def _escape(text: str, position: int) -> tuple[str, int]:
    letter = text[position : position + 1]
    if letter in _ESCAPES:
        return _ESCAPES[letter], position + 1
    if match := _CODE.match(text, position):
        hexadecimal, octal = match[1] or match[2] or match[3], match[4]
        code = int(hexadecimal, 16) if hexadecimal else int(octal, 8)
        if code > 0x10FFFF:
            raise ValueError(f"\\{match[0]} is no character")
        return chr(code), match.end()
    raise ValueError(f"\\{letter} is no escape that systemd knows")


def _unescaped(name: str) -> str:
    """As systemd-escape -u: `-` is a slash, `\\xNN` a byte."""
    if name == INSTANCE:
        return name
    plain = name.replace("-", "/")
    return re.sub(r"\\x([0-9a-fA-F]{2})", lambda match: chr(int(match[1], 16)), plain)


def boolean(text: str) -> bool:
    """As systemd's parse_boolean(); ValueError."""
    word = text.lower()
    if word in ("1", "yes", "y", "true", "t", "on"):
        return True
    if word in ("0", "no", "n", "false", "f", "off"):
        return False
    raise ValueError(f"{text[:40]!r} is neither yes nor no")


_SPAN = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Zµ]*)")
_SPAN_UNITS = {
    name: factor
    for names, factor in (
        ("us usec µs", 1e-6), ("ms msec", 1e-3), ("s sec second seconds", 1.0), ("m min minute minutes", 60.0),
        ("h hr hour hours", 3600.0), ("d day days", 86400.0), ("w week weeks", 604800.0),
        ("M month months", 2629800.0), ("y year years", 31557600.0),
    )
    for name in names.split()
}  # fmt: skip


def span_s(text: str) -> float:
    """A time span in seconds, `infinity` as such; ValueError. A plain number is seconds."""
    if text.strip() == "infinity":
        return float("inf")
    total_s, position = 0.0, 0
    while match := _SPAN.match(text, position):
        number, unit = match.groups()
        if unit and unit not in _SPAN_UNITS:
            raise ValueError(f"unknown unit {unit!r}")
        total_s += float(number) * _SPAN_UNITS.get(unit, 1.0)
        position = match.end()
    if not text.strip() or text[position:].strip():
        raise ValueError(f"{text[:40]!r} is not a time span")
    return round(total_s, 6)


def size_bytes(text: str) -> int:
    """`512M` and the like, in 1024s; ValueError, also for `infinity` and percentages."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([KMGTP]?)B?", text.strip())
    if match is None:
        raise ValueError(f"{text[:40]!r} is not a number of bytes")
    return int(float(match[1]) * 1024 ** " KMGTP".index(match[2] or " "))
