"""The table of kinds and the code that records events know the same words."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import duende
from duende.core.effects import NoteKind
from duende.model.eventkinds import EVENT_KINDS, known_words, words_of
from duende.model.status import DaemonStatus

SOURCE = Path(duende.__file__).parent
KNOWN = {kind.name for kind in EVENT_KINDS}


def _literals(node: ast.expr) -> Iterator[str]:
    """The strings that an argument may be; a formatted one as a glob."""
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp(body=body, orelse=orelse):
            yield from _literals(body)
            yield from _literals(orelse)
        case ast.JoinedStr(values=values):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "*" for part in values)


def recorded() -> dict[str, str]:
    """Every kind that stands in a call of `record(daemon, kind, …)` or `tell(kind, …)`, and where."""
    found = {}
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                position = {"record": 1, "tell": 0, "_tell": 0}.get(node.func.attr)
                if position is not None and len(node.args) > position + 1:
                    found.update(dict.fromkeys(_literals(node.args[position]), f"{path}:{node.lineno}"))
    return found


def test_every_kind_that_is_recorded_is_in_the_table() -> None:
    found = recorded()
    assert {"alert", "alert-cleared", "manager", "asked"} <= set(found), "the search itself works"
    unknown = {kind: place for kind, place in found.items() if not any(fnmatchcase(known, kind) for known in KNOWN)}
    assert unknown == {}


def test_every_note_of_the_core_is_in_the_table() -> None:
    assert {kind.value for kind in NoteKind} <= KNOWN


def test_the_names_are_words_that_a_glob_can_choose() -> None:
    assert len(KNOWN) == len(EVENT_KINDS)
    assert all(name.replace("-", "").isalpha() and name.islower() for name in KNOWN)


def test_a_status_can_be_chosen_by_its_own_word() -> None:
    assert words_of("status", "stopped") == ("status", "status:stopped")
    assert words_of("failed", "failed") == ("failed",)
    assert {f"status:{status.value}" for status in DaemonStatus} <= set(known_words())
