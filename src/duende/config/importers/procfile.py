"""Procfiles, as foreman and honcho read them, with the `.env` beside.

Each line is a name and a shell command. The first process gets PORT 5000 (or the `.env`'s), the next 5100, and so on.
Both tools send SIGTERM to all processes of a command and SIGKILL after 5 seconds.
"""

from __future__ import annotations

import os
import re
import shlex

from duende.config.envfile import parse_env_file
from duende.config.files import read_config_file
from duende.config.importers.draft import Draft, Findings, Place, Sheet, refuse

__all__ = ["read"]

_LINE = re.compile(r"([A-Za-z0-9_-]+):\s*(.+)$")
_PLAIN_COMMAND = re.compile(r"[A-Za-z0-9_@%+:,./ =-]+")  # needs no shell; `=` only behind the first word
_PORT_DEFAULT = 5000
_PORT_STEP = 100
_KILL_AFTER = "5s"


def read(text: str, place: Place, findings: Findings) -> Sheet:
    """One draft for each line."""
    sheet = Sheet(place.at(), head=[
        f"From {place.file} (Procfile). foreman and honcho end all processes when one ends;",
        "duende starts a failed one again. For theirs: restart = \"never\", essential = true.",
    ])  # fmt: skip
    env_path = os.path.join(place.folder, ".env")
    variables = _env(env_path)
    base = variables.get("PORT", "")
    port = int(base) if base.isascii() and base.isdigit() and len(base) <= 5 else _PORT_DEFAULT
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.match(line.rstrip())
        if match is None:
            findings.note(place.at(number, line.strip()[:40]), "is not NAME: COMMAND; both tools skip such a line too")
            continue
        name, command = match.groups()
        at = place.at(number, name)
        draft = Draft(name, at, findings)
        draft.put(at, argv_of(command.strip()), "command")
        if not place.is_home:
            draft.put(at, place.folder, "working_dir")
        if os.path.exists(env_path):
            draft.put(at, [place.path(".env")], "env_file")
        draft.put(at, str(port + _PORT_STEP * len(sheet.drafts)), "env", "PORT")
        draft.put(at, _KILL_AFTER, "shutdown_timeout")
        draft.put(at, "control-group", "kill_mode")
        sheet.drafts.append(draft)
    if not sheet.drafts:
        raise refuse(place.at(), "has no line NAME: COMMAND")
    if os.path.exists(os.path.join(place.folder, ".foreman")):
        reason = "is not read (concurrency, port and others of foreman's options)"
        findings.drop(place.at(0, ".foreman"), reason, "write them by hand: `replicas`, `env`, `shutdown_timeout`")
    return sheet


def argv_of(command: str) -> list[str]:
    """A shell's command line as argument vector: of itself where that is the same, else through `sh -c`."""
    first = command.split(" ", 1)[0]
    if _PLAIN_COMMAND.fullmatch(command) and "=" not in first and first not in _SHELL_WORDS:
        return shlex.split(command)
    return ["/bin/sh", "-c", command]


# Shell grammar, and builtins that no program on PATH replaces (POSIX shell, 2.4 and 2.14).
_SHELL_WORDS = frozenset(
    [
        ".",
        ":",
        "alias",
        "break",
        "case",
        "cd",
        "continue",
        "do",
        "eval",
        "exec",
        "exit",
        "export",
        "for",
        "if",
        "read",
        "return",
        "set",
        "shift",
        "source",
        "time",
        "times",
        "trap",
        "type",
        "ulimit",
        "umask",
        "unset",
        "until",
        "wait",
        "while",
    ]
)


def _env(path: str) -> dict[str, str]:
    return parse_env_file(read_config_file(path), file=path)[0] if os.path.exists(path) else {}
