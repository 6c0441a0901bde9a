"""`duende __complete WORD...`: what fits in place of the last word, one candidate a line; for completion scripts.

It must never disturb the prompt: no error output, and whatever can't be found out in half a second is left out.
"""

from __future__ import annotations

import argparse
import os

from duende.api.client import ApiError, ManagerSilent, NoManager
from duende.cli import exits
from duende.cli.main import VERBS, module_of, verb_position
from duende.cli.options import Stack
from duende.cli.output import write
from duende.errors import ConfigurationError

__all__ = ["candidates", "main"]

_PATIENCE_S = 0.5
_GLOBAL = ("--config", "--stack", "--json", "--no-color", "--help")
_WITH_NAMES = frozenset((
    "up", "start", "stop", "restart", "reload", "signal", "status", "explain", "graph", "ps", "logs", "events", "wait",
    "exec",
))  # fmt: skip
_SIGNALS = ("HUP", "INT", "QUIT", "KILL", "USR1", "USR2", "TERM", "CONT", "STOP")


def main(argv: list[str]) -> int:
    """Run the verb."""
    for candidate in candidates(argv or [""]):
        write(candidate)
    return exits.OK


def candidates(words: list[str]) -> list[str]:
    """What may stand in place of the last of `words`; none where the shell should offer files."""
    *before, current = words
    return [one for one in _possible(before, current) if one.startswith(current)]


def _possible(before: list[str], current: str) -> list[str]:
    previous = before[-1] if before else ""
    if previous in ("-c", "--config") or "--" in before:
        return []
    if previous in ("-s", "--stack"):
        return _stacks()
    position = verb_position(before)
    if position is None:
        return list(_GLOBAL) if current.startswith("-") else list(VERBS)
    verb, rest = before[position], before[position + 1 :]
    if verb not in VERBS:
        return []
    parser: argparse.ArgumentParser = __import__(f"duende.cli.{module_of(verb)}", fromlist=["parser"]).parser()
    # argparse offers no other way to its own options; the name is unchanged since Python 2.7.
    actions = parser._option_string_actions
    if previous in actions and actions[previous].nargs != 0:
        return [str(choice) for choice in actions[previous].choices or ()]
    if current.startswith("-"):
        return sorted(option for option in actions if option.startswith("--"))
    if verb == "completion":
        return [str(shell) for action in parser._actions if action.dest == "shell" for shell in action.choices or ()]
    if verb == "signal" and not [word for word in rest if not word.startswith("-")]:
        return list(_SIGNALS)
    return _daemons(before) if verb in _WITH_NAMES else []


def _daemons(before: list[str]) -> list[str]:
    shared = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    shared.add_argument("-c", "--config")
    shared.add_argument("-s", "--stack")
    try:
        stack = Stack.of(shared.parse_known_args(before)[0])
    except (argparse.ArgumentError, ConfigurationError):
        return []  # no stack is meant yet
    try:
        answer = stack.hasty_client.get("/v1/status", timeout_s=_PATIENCE_S)
    except (NoManager, ManagerSilent, ApiError):
        return _configured(stack)  # no manager to ask; the file knows the names too
    return [daemon["name"] for daemon in answer["daemons"]]


def _configured(stack: Stack) -> list[str]:
    if stack.config is None:
        return []
    from duende.config.load import load_stack

    try:
        return list(load_stack(stack.config).daemons)
    except ConfigurationError:
        return []  # `duende check` is the place to hear about it


def _stacks() -> list[str]:
    from duende.config.paths import stack_paths

    try:
        return sorted(os.listdir(os.path.dirname(stack_paths("any").runtime_dir)))
    except (OSError, ConfigurationError):
        return []  # no stack ever ran here
