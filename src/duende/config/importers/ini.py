"""INI as supervisord reads it: configparser's rules with its options, and the line of every key.

Comments begin with `;` or `#`, also behind a value after a blank; keys end at the first `=` or `:` and have no case;
deeper lines go on with the value above; a section or key may come again, the later value wins. Nothing is expanded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from duende.config.importers.draft import Place, refuse

__all__ = ["Section", "parse_ini"]

_SECTION = re.compile(r"\[(?P<name>.+)\]")
_INLINE_COMMENT = re.compile(r"(?:^|(?<=\s))[;#].*")


@dataclass(slots=True)
class Section:
    """One section: its keys with value and line."""

    name: str
    line: int
    file: str
    values: dict[str, tuple[str, int]] = field(default_factory=dict)


def parse_ini(text: str, place: Place) -> list[Section]:
    """The sections in the order of their first lines; ConfigurationError for what supervisord could not read."""
    sections: dict[str, Section] = {}
    section: Section | None = None
    key, indent = "", 0
    for number, raw in enumerate(text.split("\n"), 1):
        line = "" if raw.lstrip()[:1] in ("#", ";") else _INLINE_COMMENT.sub("", raw, count=1)
        value = line.strip()
        here = len(line) - len(line.lstrip())
        if not value:
            continue  # neither a comment nor an empty line ends a value
        if section is not None and key and here > indent:
            before, at = section.values[key]
            section.values[key] = (f"{before}\n{value}", at)
            continue
        indent = here
        if header := _SECTION.match(value):
            name = header["name"]
            section, key = sections.setdefault(name, Section(name, number, place.file)), ""
            continue
        if section is None:
            raise refuse(place.at(number), "stands before the first [section]", "is it a supervisord.conf?")
        if not (pair := re.match(r"(?P<key>.*?)\s*[=:]\s*(?P<value>.*)$", value)) or not pair["key"]:
            raise refuse(place.at(number), f"is not KEY=VALUE: {value[:60]!r}")
        key = pair["key"].lower()
        section.values[key] = (pair["value"], number)
    return list(sections.values())
