"""The kinds of value that choose events and daemons: `on = ["failed"]`, `daemons = ["web*"]`. See kinds.py."""

from __future__ import annotations

import difflib
from fnmatch import fnmatchcase
from typing import Any

from duende.config.kinds import MISSING, Kind, Missing, Reader, WrongType, found
from duende.config.locate import KeyPath
from duende.model.eventkinds import known_words

__all__ = ["daemon_patterns", "entry_point_name", "event_words"]


def _strings(reader: Reader, at: KeyPath, value: object) -> tuple[str, ...] | Missing:
    if not isinstance(value, list):
        raise WrongType
    for index, item in enumerate(value):
        if not isinstance(item, str) or not item:
            return reader.fail((*at, index), f"expected a string that is not empty, found {found(item)}")
    return tuple(value)


def _read_words(reader: Reader, at: KeyPath, value: object) -> tuple[str, ...] | Missing:
    words = _strings(reader, at, value)
    if words is MISSING:
        return words
    if not words:
        raise ValueError("is empty: which events? (`[\"*\"]` means all)")
    known = known_words()
    for index, word in enumerate(words):
        if not any(fnmatchcase(one, word) for one in known):
            near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
            hint = f"did you mean `{near[0]}`?" if near else "docs/reference/events.md lists them all"
            return reader.fail((*at, index), f'there is no kind of event "{word[:60]}"', hint)
    return words


def _list_schema(items: dict[str, Any], least: int) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": least}


_ITEM: dict[str, Any] = {"type": "string", "minLength": 1}
_GLOB = {"type": "string", "pattern": r"[*?\[]"}
event_words = Kind(
    "list of kinds",
    'a list of kinds of events such as ["failed", "recovered"]',
    _list_schema({"anyOf": [{"enum": list(known_words())}, _GLOB]}, 1),
    _read_words,
    (tuple,),
)
daemon_patterns = Kind(
    "list of names", 'a list of names and globs such as ["web*"]', _list_schema(_ITEM, 0), _strings, (tuple,)
)


def _check_entry_point(value: str) -> str:
    is_one = value and not any(char.isspace() for char in value)
    return "" if is_one else f'"{value[:60]}" is not an entry point\'s name'


entry_point_name = Kind(
    "name",
    "the name of an entry point of the group duende.hooks",
    {"type": "string", "pattern": r"^\S+$"},
    lambda reader, at, value: reader.text(value),
    check=_check_entry_point,
    is_text=True,
)
