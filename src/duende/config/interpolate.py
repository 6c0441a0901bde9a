"""`${VAR}` in configuration strings, from the manager's environment, and `{instance}` for replicas.

- `${VAR}`: the value; an unset variable is an error, never a silent empty string
- `${VAR:-default}`: `default` when VAR is unset or empty (POSIX shell's rule); the default may hold another `${…}`
- `${VAR:?message}`: an error with `message` when VAR is unset or empty
- `$$`: one `$`

Any other `$` stays as it is, so `$1` and `$HOME` reach a shell that a command starts.
The result is never scanned again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["expand_instance", "interpolate"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_INSTANCE = re.compile(r"\{\{instance\}\}|\{instance\}")
_NESTING_MAX = 8  # defaults inside defaults; deeper is a typing error


def interpolate(text: str, environ: Mapping[str, str]) -> str:
    """Replace the variables of `text`; ValueError names the variable and what to do."""
    if "$" not in text:
        return text
    result, _ = _expand(text, 0, environ, depth=0)
    return result


def expand_instance(text: str, instance: int) -> str:
    """Replace `{instance}` by the replica's number; `{{instance}}` is a literal `{instance}`."""
    if "{instance}" not in text:
        return text
    return _INSTANCE.sub(lambda match: "{instance}" if match.group().startswith("{{") else str(instance), text)


def _expand(text: str, position: int, environ: Mapping[str, str], *, depth: int) -> tuple[str, int]:
    """Expand from `position` to the end, or inside `${…}` (depth > 0) to the closing brace; also the place after it."""
    if depth > _NESTING_MAX:
        raise ValueError(f"${{…}} is nested more than {_NESTING_MAX} deep")
    parts: list[str] = []
    while position < len(text):
        char = text[position]
        if char == "}" and depth:
            return "".join(parts), position + 1
        if text.startswith("$$", position):
            parts.append("$")
            position += 2
        elif text.startswith("${", position):
            value, position = _variable(text, position + 2, environ, depth=depth)
            parts.append(value)
        else:
            parts.append(char)
            position += 1
    if depth:
        raise ValueError("${ is never closed by }; write $$ for a plain $")
    return "".join(parts), position


def _variable(text: str, position: int, environ: Mapping[str, str], *, depth: int) -> tuple[str, int]:
    """The value of the variable whose name starts at `position`, and the place after its closing brace."""
    match = _NAME.match(text, position)
    if match is None:
        raise ValueError("${ is not followed by a variable's name; write $$ for a plain $")
    name, position = match.group(), match.end()
    value = environ.get(name)
    if text.startswith("}", position):
        if value is None:
            raise ValueError(f"${{{name}}} is not set in the environment; set it, or write ${{{name}:-default}}")
        return value, position + 1
    operator = text[position : position + 2]
    if operator == ":-":
        if value:  # the default is skipped, not evaluated: what it names need not be set
            _, position = _expand(text, position + 2, _Anything(), depth=depth + 1)
            return value, position
        return _expand(text, position + 2, environ, depth=depth + 1)
    if operator == ":?":
        message, position = _expand(text, position + 2, environ, depth=depth + 1)
        if not value:
            raise ValueError(f"${{{name}}} is not set: {message or 'it is required'}")
        return value, position
    after = repr(text[position : position + 1])
    raise ValueError(f"${{{name} is followed by {after}; known forms are ${{V}}, ${{V:-default}}, ${{V:?message}}")


class _Anything(dict[str, str]):
    """An environment in which everything is set; for skipping over a default that is not needed."""

    def get(self, key: str, default: object = None) -> str:
        return "x"
