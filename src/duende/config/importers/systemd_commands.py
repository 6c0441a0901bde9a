"""The command lines of a service unit: ExecStart= and what of the others duende can say by a signal."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence

from duende.config.importers.draft import Draft, Findings, hidden
from duende.config.importers.unitfile import Setting, Unit, split_words
from duende.model.signals import Signal

__all__ = ["argument_vector", "reload_and_stop"]

_PREFIXES = "@-:+!|"
_WHOLE = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)")
_BRACED = re.compile(r"\$\$|\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def argument_vector(unit: Unit, starts: Sequence[Setting], findings: Findings) -> list[str]:
    """What duende executes. Variables are the daemon's own, so a shell puts them in; ValueError."""
    lines = [_words(unit, one, findings) for one in starts]
    if len(lines) == 1:
        _, words, with_variables = lines[0]
        if not with_variables or not any(_has_variable(word) for word in words):
            return [_literal(word) if with_variables else word for word in words]
        return ["/bin/sh", "-c", f"{_shell_head([words])}exec {_shell(words)}"]
    parts = [
        (_shell(words) if with_variables else " ".join(_quoted(word) for word in words)) + (" || :" if ignore else "")
        for ignore, words, with_variables in lines
    ]
    return ["/bin/sh", "-c", _shell_head([words for _, words, _ in lines]) + "set -e; " + "; ".join(parts)]


def _words(unit: Unit, one: Setting, findings: Findings) -> tuple[bool, list[str], bool]:
    """Whether a failure is ignored, the words, and whether variables are replaced in them."""
    prefixes, rest = "", one.value
    while rest[:1] and rest[0] in _PREFIXES:
        prefixes, rest = prefixes + rest[0], rest[1:].lstrip()
    words = [unit.expand(word) for word in split_words(rest)]
    if not words:
        raise ValueError("has no program")
    at = one.at
    if "@" in prefixes and len(words) > 1:
        findings.drop(at, f"@ gives the program another name ({words[1]})", "put env -a or exec -a in front")
        del words[1]
    if "+" in prefixes or "!" in prefixes:
        findings.drop(
            at, f"the prefix {prefixes} keeps root's rights", "leave `user` out, or make it a daemon of its own"
        )
    if "-" in prefixes and one.key == "ExecStart" and len(unit.all("Service", "ExecStart")) == 1:
        findings.drop(at, "the prefix - takes every exit code for a success", "list them in restart.success_exit_codes")
    return "-" in prefixes, words, ":" not in prefixes


def _literal(word: str) -> str:
    plain, shown = hidden(word)
    return shown(plain.replace("$$", "$"))


def _has_variable(word: str) -> bool:
    word, _ = hidden(word)
    return bool(_WHOLE.fullmatch(word)) or any(match[1] for match in _BRACED.finditer(word))


def _shell_head(lines: Sequence[Sequence[str]]) -> str:
    """A `$NAME` of its own is split into words by systemd, but its stars stay stars."""
    return "set -f; " if any(_WHOLE.fullmatch(word) for words in lines for word in words) else ""


def _shell(words: Sequence[str]) -> str:
    return " ".join(word if _WHOLE.fullmatch(word) else _substituted(word) for word in words)


def _substituted(word: str) -> str:
    """One word: `${NAME}` in double quotes, all the rest literal."""
    word, shown = hidden(word)
    parts, position = [], 0
    for match in _BRACED.finditer(word):
        parts.append(_quoted(word[position : match.start()]) if match.start() > position else "")
        parts.append(f'"${{{match[1]}}}"' if match[1] else "'$'")
        position = match.end()
    if position < len(word) or not parts:
        parts.append(_quoted(word[position:]))
    return shown("".join(parts))


def _quoted(text: str) -> str:
    return shlex.quote(text)  # a mark of ours is no safe character to it, so it ends up in single quotes


def reload_and_stop(draft: Draft, unit: Unit, findings: Findings) -> None:
    """`/bin/kill -HUP $MAINPID` is a signal that duende can send itself; other commands can only reload."""
    for one in unit.all("Service", "ExecStop"):
        if name := _signal_of(one.value):
            draft.put(one.at, name, "stop_signal")
        else:
            hint = "stop_signal asks it to end, and SIGKILL follows after shutdown_timeout"
            findings.drop(one.at, "duende runs no command to stop", hint)
    reloads = unit.all("Service", "ExecReload")
    if len(reloads) == 1 and (name := _signal_of(reloads[0].value)):
        draft.put(reloads[0].at, name, "reload_signal")
    elif reloads:
        try:
            draft.put(reloads[0].at, argument_vector(unit, reloads, findings), "reload_command")
        except ValueError as error:
            findings.drop(reloads[0].at, str(error))


def _signal_of(line: str) -> str:
    """The signal that a kill of the main process sends; empty when it is another command."""
    try:
        program, *words = split_words(line.lstrip(_PREFIXES))
    except ValueError:
        return ""
    if os.path.basename(program) != "kill" or words[-1:] not in (["$MAINPID"], ["${MAINPID}"]):
        return ""
    words = words[:-1]
    word = words[1] if len(words) == 2 and words[0] in ("-s", "--signal") else words[0].lstrip("-") if words else "TERM"
    try:
        return Signal.parse(word.removeprefix("signal=")).full_name
    except ValueError:
        return ""
