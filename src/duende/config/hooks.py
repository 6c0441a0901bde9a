"""Reading `[[hook]]` from the files of a stack, and what must hold of hooks and of the daemons they name.

Hooks add up over the files (lists elsewhere replace each other): a drop-in brings its own without knowing the others.
One of the same name takes the place of an earlier file's.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator, Mapping, Sequence

from duende.config.daemon import DaemonConfig
from duende.config.hook import HookConfig
from duende.config.kinds import Reader, found
from duende.config.layers import Layer, dotted
from duende.config.locate import KeyPath
from duende.config.replicas import replica_names
from duende.config.rules import Finding
from duende.config.schema import HOOK, near_hint
from duende.errors import Problem

__all__ = ["hook_findings", "read_hooks"]

_ACTIONS = "command, webhook, entry_point and start"


def read_hooks(
    files: Iterable[Layer], daemons: Mapping[str, DaemonConfig], environ: Mapping[str, str], directory: str,
    *, is_whole: bool,
) -> tuple[tuple[HookConfig, ...], list[Problem]]:  # fmt: skip
    """The hooks of all files, and what is wrong with them. Daemons are only looked for when they are all known."""
    hooks: dict[str, HookConfig] = {}
    problems: list[Problem] = []
    names = [*daemons, *(one for name, config in daemons.items() for one in replica_names(name, config.replicas))]
    for layer in files:
        reader = Reader(environ, directory)
        own = _read_layer(reader, layer)
        for at, hook in own:
            for below, reason, hint in hook_findings(hook, names if is_whole else None):
                reader.fail((*at, *below), reason, hint)
        problems += [
            Problem(reason, file=layer.label, line=layer.line(at), key=dotted(at), hint=hint)
            for at, reason, hint in reader.problems
        ]
        hooks.update({hook.name: hook for _, hook in own})
    return tuple(hooks.values()), problems


def _read_layer(reader: Reader, layer: Layer) -> list[tuple[KeyPath, HookConfig]]:
    tables = layer.document.get("hook", [])
    if not isinstance(tables, list):
        reader.fail(("hook",), f"expected tables [[hook]], found {found(tables)}", "write [[hook]] with two brackets")
        return []
    hooks: list[tuple[KeyPath, HookConfig]] = []
    for index, table in enumerate(tables):
        at: KeyPath = ("hook", index)
        if not isinstance(table, dict):
            reader.fail(at, f"expected a table, found {found(table)}", "write [[hook]]")
            continue
        failed_before = len(reader.problems)
        values = HOOK.read_fields(reader, at, table)
        if len(reader.problems) > failed_before:
            continue
        name = values.pop("name", "")
        if any(name == other.name for _, other in hooks):
            reader.fail((*at, "name"), f"{name} is the name of another hook in this file", "give each its own")
            continue
        hooks.append((at, HookConfig(name, source=f"{layer.label}:{layer.line(at)}", **values)))
    return hooks


def hook_findings(hook: HookConfig, names: Sequence[str] | None) -> Iterator[Finding]:
    """What is wrong with one hook. `names`: all daemons and replicas; None where they are not known."""
    if not hook.name:
        yield (), "has no `name`", "give it one, for `duende hooks` and to find its place again: name = \"pager\""
    if not hook.on:
        yield (), "does not say which events", 'write on = ["failed", "recovered"]'
    actions = [action for action in (hook.command, hook.webhook, hook.entry_point, hook.start) if action is not None]
    if len(actions) != 1:
        yield (), f"exactly one of {_ACTIONS} must be set, found {len(actions) or 'none'}", ""
    if hook.command == ():
        yield ("command",), "is empty", ""
    if hook.secret_file is not None and hook.webhook is None:
        yield ("secret_file",), "is for a webhook, and this hook has none", ""
    if names is None:
        return
    if hook.start is not None and hook.start not in names:
        yield ("start",), f"there is no daemon {hook.start}", near_hint(hook.start, list(names))
    for index, pattern in enumerate(hook.daemons):
        is_glob = any(char in pattern for char in "*?[")
        if not is_glob and not fnmatch.filter(names, pattern):
            yield ("daemons", index), f"there is no daemon {pattern}", near_hint(pattern, list(names))
