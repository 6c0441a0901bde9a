"""Drafts in, the text of a `duende.toml` out: commented, stable, and exactly what tomllib reads back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from duende.config.importers.draft import Draft, Sheet, plain_of, spelled
from duende.config.schema import DAEMON
from duende.errors import Problem

__all__ = ["toml_text"]

_LINE_CHARS = 110  # a table that would be longer gets a header of its own
_BARE = re.compile(r"[A-Za-z0-9_-]+")
# What replicas.py puts the instance's number into.
_NUMBERED = frozenset(("command", "args", "env", "working_dir", "pid_file", "ready", "health_check", "log", "probe"))
_ORDER = {entry.key: number for number, entry in enumerate(DAEMON.fields)}


def toml_text(sheets: Sequence[Sheet], dropped: Sequence[Problem] = (), *, with_env_files: bool = True) -> str:
    """The whole file. `dropped` is mentioned above the daemon that it stood in."""
    lines = ["# Written by `duende import`."]
    for sheet in sheets:
        lines += [_comment(text) for text in sheet.head]
    drafts = [draft for sheet in sheets for draft in sheet.drafts]
    owners = _owners(drafts, dropped)
    lines += _lost_lines(owners.get(-1, []))
    names = [sheet.stack_name for sheet in sheets if sheet.stack_name]
    if names:
        lines += ["", "[stack]", f"name = {_value(names[0])}"]
    for number, draft in enumerate(drafts):
        lines += ["", *_daemon(draft, owners.get(number, []), with_env_files=with_env_files)]
    return "\n".join(lines) + "\n"


def _owners(drafts: Sequence[Draft], dropped: Sequence[Problem]) -> dict[int, list[Problem]]:
    """Which draft each lost construct belongs to, by its place and key; -1: none."""
    result: dict[int, list[Problem]] = {}
    for problem in dropped:
        owners = [
            number
            for number, draft in enumerate(drafts)
            if draft.at.file == problem.file and problem.key.startswith(draft.scope) and draft.at.line <= problem.line
        ]
        result.setdefault(owners[0] if owners else -1, []).append(problem)
    return result


def _lost_lines(lost: Sequence[Problem]) -> list[str]:
    places = [": ".join(part for part in (_where(problem.file, problem.line), problem.key) if part) for problem in lost]
    return [_comment(f"not carried over: {place}") for place in places]


def _where(file: str, line: int) -> str:
    return f"{file}:{line}" if line else file


def _daemon(draft: Draft, lost: Sequence[Problem], *, with_env_files: bool) -> Iterator[str]:
    where = _where(draft.at.file, draft.at.line)
    yield _comment(f"{where} {draft.at.key}".strip())
    yield from _lost_lines(lost)
    header = f"daemon.{_key(draft.name)}"
    yield f"[{header}]"
    tables: list[tuple[str, dict[str, Any], str]] = []
    for key, value in sorted(_nested(draft).items(), key=lambda item: _ORDER.get(item[0], len(_ORDER))):
        if key == "env_file" and not with_env_files:
            continue
        line = f"{key} = {_value(value, is_numbered=key in _NUMBERED)}"
        if isinstance(value, dict) and len(line) > _LINE_CHARS:
            tables.append((key, value, where))
        else:
            yield line
    for key, table, origin in tables:
        yield ""
        yield _comment(f"{origin} {draft.at.key}: {key}")
        yield f"[{header}.{key}]"
        for inner, value in table.items():
            yield f"{_key(inner)} = {_value(value, is_numbered=key in _NUMBERED)}"


def _nested(draft: Draft) -> dict[str, Any]:
    """Key paths as tables in tables."""
    result: dict[str, Any] = {}
    for path, (value, _) in draft.values.items():
        if len(path) == 1:
            result[path[0]] = value
        else:
            result.setdefault(path[0], {})[path[1]] = value
    restart = result.get("restart")
    if isinstance(restart, dict) and list(restart) == ["policy"]:
        result["restart"] = restart["policy"]
    return result


def _value(value: Any, *, is_numbered: bool = False) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case str():
            return _string(spelled(value, is_numbered=is_numbered))
        case Mapping():
            pairs = [f"{_key(key)} = {_value(item, is_numbered=is_numbered)}" for key, item in value.items()]
            return "{ " + ", ".join(pairs) + " }" if pairs else "{}"
        case _:
            return "[" + ", ".join(_value(item, is_numbered=is_numbered) for item in value) + "]"


def _string(text: str) -> str:
    # JSON's escapes are TOML's; only DEL may stand raw in JSON and not here (TOML 1.0, "Basic strings").
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _string(name)


def _comment(text: str) -> str:
    shown = "".join(char if char.isprintable() or char == "\t" else ascii(char)[1:-1] for char in plain_of(text))
    return f"# {shown}"
