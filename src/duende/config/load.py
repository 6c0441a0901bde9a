"""Load a stack: layers in, `StackConfig` out, or one `ConfigurationError` with everything that is wrong in all of them.

Layers, later ones win key by key: the file, `conf.d/*.toml` beside it, `DUENDE_DAEMON__…` variables, overrides (flags).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from duende.config import layers
from duende.config.daemon import DaemonConfig, StackConfig
from duende.config.hook import HookConfig
from duende.config.kinds import Reader, found
from duende.config.layers import Layer, Origins
from duende.config.locate import KeyPath
from duende.config.paths import is_name, sanitized_name
from duende.config.rules import daemon_findings, stack_findings
from duende.config.schema import DAEMON, SECTIONS, STACK, near_hint
from duende.config.texts import name_hint, name_problem
from duende.errors import ConfigurationError, Problem
from duende.model.schedule import ScheduleConfig

__all__ = ["Loaded", "load_stack", "load_text", "read_stack"]

_EMPTY: Mapping[str, Any] = MappingProxyType({})
_HEADER = re.compile(
    r"""^[ \t]*\[[ \t]*daemon[ \t]*\.[ \t]*(?:([A-Za-z0-9_-]+)|"([^"\\\n]*)"|'([^'\n]*)')[ \t]*\]""", re.MULTILINE
)


class LoadFailed(ConfigurationError):
    """What is wrong, and in `partial` what could be understood all the same, for more to be said about it."""

    def __init__(self, problems: list[Problem], partial: Loaded) -> None:
        super().__init__(problems)
        self.partial = partial


class Loaded:
    """A stack together with where its settings came from, for messages about it later (`duende check`)."""

    __slots__ = ("origins", "stack")

    def __init__(self, stack: StackConfig, origins: Origins) -> None:
        self.stack = stack
        self.origins = origins


def load_stack(
    path: str | os.PathLike[str],
    *,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> StackConfig:
    """Load the stack of a file with all its layers; `environ` defaults to this process's.

    `overrides` maps dotted keys to values: `{"daemon.web.nice": "5"}`. Replicas are not expanded yet (replicas.py).
    ConfigurationError carries every problem with file, line and key.
    """
    return read_stack(path, environ=environ, overrides=overrides).stack


def load_text(
    text: str,
    *,
    label: str = "<text>",
    directory: str | os.PathLike[str] | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> StackConfig:
    """Load a stack from text; relative paths start in `directory` (default: the working directory)."""
    folder = os.path.abspath(os.fspath(directory) if directory is not None else os.getcwd())
    environ = os.environ if environ is None else environ
    return _load([layers.text_layer(text, label=label)], [], folder, None, environ, overrides).stack


def read_stack(
    path: str | os.PathLike[str],
    *,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> Loaded:
    """As `load_stack`, with the origins of all settings."""
    main = os.path.abspath(os.fspath(path))
    problems: list[Problem] = []
    files: list[Layer] = []
    try:
        files.append(layers.file_layer(main))
    except ConfigurationError as error:
        problems += error.problems
        if not os.path.isfile(main):
            raise  # a stack that is not there: its drop-ins are beside the point
    try:
        drop_ins = layers.drop_in_files(main)
    except ConfigurationError as error:
        drop_ins = []
        problems += error.problems
    for name in drop_ins:
        try:
            files.append(layers.file_layer(name))
        except ConfigurationError as error:
            problems += error.problems
    environ = os.environ if environ is None else environ
    return _load(files, problems, os.path.dirname(main), Path(main), environ, overrides)


def _load(
    files: list[Layer],
    problems: list[Problem],
    directory: str,
    path: Path | None,
    environ: Mapping[str, str],
    overrides: Mapping[str, object] | None,
) -> Loaded:
    is_whole = not problems  # with a file missing, only what is wrong in itself is told, not what may be missing
    document = layers.merge(files)
    daemons = document.get("daemon")
    names = list(daemons) if isinstance(daemons, dict) else []
    more, found_problems = layers.environment_layers(environ, names)
    problems += found_problems
    if overrides:
        override_layers, found_problems = layers.override_layers(overrides)
        more += override_layers
        problems += found_problems
    origins = Origins([*files, *more])
    if more:
        document = layers.merge([Layer("", document), *more])
    reader = Reader(environ, directory)
    name = _stack_name(reader, files, problems, directory)
    daemon_map = _read_document(reader, document, origins, directory, is_whole=is_whole)
    if is_whole and not reader.problems:
        for at, reason, hint in stack_findings(daemon_map):
            reader.fail(at, reason, hint)
    hooks: tuple[HookConfig, ...] = ()
    if any("hook" in layer.document for layer in files):
        from duende.config.hooks import read_hooks  # here: most stacks have none

        known = is_whole and not reader.problems
        hooks, found_problems = read_hooks(files, daemon_map, environ, directory, is_whole=known)
        problems += found_problems
    loaded = Loaded(StackConfig(name, MappingProxyType(daemon_map), Path(directory), path, hooks), origins)
    if reader.problems or problems:
        problems += [origins.problem(*problem) for problem in reader.problems]
        raise LoadFailed(_in_order(problems), loaded)
    return loaded


def _in_order(problems: list[Problem]) -> list[Problem]:
    """By file (in the order of the layers), then by line."""
    files = {problem.file: number for number, problem in reversed(list(enumerate(problems)))}
    return sorted(problems, key=lambda problem: (files[problem.file], problem.line))


def _stack_name(reader: Reader, files: list[Layer], problems: list[Problem], directory: str) -> str:
    """The stack's name. Only the main file may give it: `duende -s NAME` must find it by reading that one alone."""
    fallback = sanitized_name(os.path.basename(directory))
    for number, layer in enumerate(files):
        table = layer.document.get("stack", {})
        if not isinstance(table, dict):
            problem = f"expected a table, found {found(table)}"
            problems.append(Problem(problem, file=layer.label, line=layer.line(("stack",)), key="stack"))
        elif number and table:
            reason = "only the main file can have [stack]"
            problems.append(Problem(reason, file=layer.label, line=layer.line(("stack",)), key="stack"))
        elif table:
            fallback = STACK.read_fields(reader, ("stack",), table).get("name", fallback)
        elif layer.prefix and number == 0 and is_name(str(layer.prefix[1])):
            fallback = str(layer.prefix[1])
    return fallback


def _read_document(
    reader: Reader, document: Mapping[str, Any], origins: Origins, directory: str, *, is_whole: bool
) -> dict[str, DaemonConfig]:
    for key in document:
        if key not in ("stack", "daemon", "hook"):
            belongs = key in DAEMON.by_key or key == "name" or any(key == section.name for section in SECTIONS)
            hint = "it belongs below a [daemon.NAME] header" if belongs else near_hint(key, ["stack", "daemon", "hook"])
            reader.fail((key,), "unknown key", hint)
    tables = document.get("daemon", _EMPTY)
    if not isinstance(tables, Mapping):
        reader.fail(("daemon",), f"expected tables [daemon.NAME], found {found(tables)}")
        return {}
    sources = _sources(origins, tables)
    files = [layer for layer in origins.layers if layer.is_file]
    result = {}
    for name, table in tables.items():
        at: KeyPath = ("daemon", name)
        if not is_name(name):
            reader.fail(at, name_problem(name), name_hint(name))
        elif not isinstance(table, dict):
            reader.fail(at, f"expected a table, found {found(table)}")
        elif is_whole and not any(layer.has(at) for layer in files):
            known = [known for known in tables if any(layer.has(("daemon", known)) for layer in files)]
            reader.fail(at, f"there is no daemon {name}", near_hint(name, known))
        else:
            result[name] = _daemon(reader, name, table, sources.get(name, ""), directory, is_whole=is_whole)
    return result


def _daemon(
    reader: Reader, name: str, table: dict[str, Any], source: str, directory: str, *, is_whole: bool
) -> DaemonConfig:
    at: KeyPath = ("daemon", name)
    problems_before = len(reader.problems)
    values = DAEMON.read_fields(reader, at, table)
    if len(values.keys() & set(DAEMON.one_of)) > 1:
        values = {key: value for key, value in values.items() if key not in DAEMON.one_of}  # already reported
    arguments = values.get("args", ())
    if "command" in values:
        values["command"] += arguments
    if "env" in values or "env_file" in values:
        values["env"] = MappingProxyType(values.pop("env_file", {}) | values.get("env", {}))
    for key in ("settings", "after"):
        if key in values:
            values[key] = MappingProxyType(values[key])
    if "every" in values:
        if "schedule" in values:
            reader.fail((*at, "every"), "only one of schedule and every can be set", "write schedule = { every = … }")
        values["schedule"] = ScheduleConfig(every=values.pop("every"))
    if "working_dir" not in values:
        values["working_dir"] = Path(directory)
    config = DaemonConfig(name=name, source=source, **values)
    if len(reader.problems) > problems_before:
        meant = {DAEMON.meant_by(key) for key in table if key not in DAEMON.by_key}  # a typo has been told already
        if is_whole and not any(key in table or key in meant for key in DAEMON.one_of):
            reader.fail(at, *next(daemon_findings(config))[1:])  # the first rule: nothing to run
    elif is_whole:
        for below, reason, hint in daemon_findings(config):
            reader.fail((*at, *below), reason, hint)
    return config


def _sources(origins: Origins, tables: Mapping[str, Any]) -> dict[str, str]:
    """`file:line` of each daemon's table: by its header where that is certain, by the locator otherwise."""
    result: dict[str, str] = {}
    for layer in origins.layers:
        if not layer.is_file:
            continue
        if layer.prefix:
            result.setdefault(str(layer.prefix[1]), f"{layer.label}:1")
            continue
        text = layer.text
        if '"""' not in text and "'''" not in text:  # inside a long string, a line may only look like a header
            line, position = 1, 0
            for match in _HEADER.finditer(text):
                line += text.count("\n", position, match.start())
                position = match.start()
                result.setdefault(next(filter(None, match.groups()), ""), f"{layer.label}:{line}")
        daemons = layer.document.get("daemon", {})
        for name in daemons if isinstance(daemons, dict) else ():
            if name not in result and name in tables:
                result[name] = f"{layer.label}:{layer.line(('daemon', name))}"
    return result
