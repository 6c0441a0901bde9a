"""The layers of a configuration: file, `conf.d/*.toml`, `DUENDE_*` variables, flags; merged per key, with origins.

Tables merge deeply; any other value (also a list) is replaced as a whole by the later layer. Every layer keeps its own
document, so the origin of a value is found afterwards by asking the layers from the last to the first: nothing is
paid for it when all is well.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any

from duende.config.files import read_config_file
from duende.config.locate import KeyPath, line_of, positions
from duende.config.schema import DAEMON, RESTART, kind_of, near_hint
from duende.errors import ConfigurationError, Problem

__all__ = [
    "Layer",
    "Origins",
    "drop_in_files",
    "environment_layers",
    "file_layer",
    "merge",
    "override_layers",
    "parse_overrides",
    "text_layer",
]

ENV_PREFIX = "DUENDE_DAEMON__"
_AT_LINE = re.compile(r" \(at line ([0-9]+), column [0-9]+\)$")
_NOT_OF_DAEMONS = ("name", "stack", "hook")  # keys at the top of the seed's shape that are not its daemon's
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_@-]+")


class Layer:
    """One source of settings. `document` is in the stack's shape; `prefix` is what a single-daemon file leaves out."""

    __slots__ = ("_lines", "document", "is_file", "label", "prefix", "text")

    def __init__(self, label: str, document: dict[str, Any], *, text: str = "", is_file: bool = False) -> None:
        self.label = label  # the file's path, or where else it comes from
        self.document = document
        self.text = text
        self.is_file = is_file
        self.prefix: KeyPath = ()
        self._lines: dict[KeyPath, int] | None = None

    def has(self, at: KeyPath) -> bool:
        """Whether this layer says something at `at`."""
        here: Any = self.document
        for part in at:
            if isinstance(here, list):
                here = dict(enumerate(here))
            if not isinstance(here, dict) or part not in here:
                return False
            here = here[part]
        return True

    def line(self, at: KeyPath) -> int:
        """The line of `at` in the file, 0 where there is none."""
        if not self.is_file:
            return 0
        if self.prefix and at[: len(self.prefix)] == self.prefix:
            at = at[len(self.prefix) :]
            if not at:
                return 1
        if self._lines is None:
            self._lines = positions(self.text)
        return line_of(self._lines, at)


class Origins:
    """Which layer set what."""

    def __init__(self, layers: list[Layer]) -> None:
        self.layers = layers

    def layer_of(self, at: KeyPath) -> Layer:
        """The layer that had the last word on `at`, or on the nearest table around it."""
        while True:
            for layer in reversed(self.layers):
                if layer.has(at):
                    return layer
            at = at[:-1]

    def problem(self, at: KeyPath, reason: str, hint: str = "") -> Problem:
        """A problem with its file, line and key."""
        layer = self.layer_of(at)
        shown = at[len(layer.prefix) :] if at[: len(layer.prefix)] == layer.prefix else at
        return Problem(reason, file=layer.label, line=layer.line(at), key=dotted(shown), hint=hint)


def dotted(at: KeyPath) -> str:
    """A key path as TOML writes it; `[n]` for items of a list."""
    text = ""
    for part in at:
        if isinstance(part, int):
            text += f"[{part}]"
            continue
        if not _PLAIN_KEY.fullmatch(part):
            part = '"' + part.replace("\\", "\\\\").replace('"', '\\"') + '"'
        text += f".{part}" if text else part
    return text


def file_layer(path: str) -> Layer:
    """Read and parse one file; ConfigurationError says why it can't be."""
    return text_layer(read_config_file(path), label=path)


def text_layer(text: str, *, label: str) -> Layer:
    """Parse one document in either shape; ConfigurationError with the line of a syntax error."""
    try:
        document = tomllib.loads(text)
    except RecursionError:
        raise ConfigurationError([Problem("is nested too deeply", file=label)]) from None
    except ValueError as error:  # TOMLDecodeError, and int() of more than 4300 digits
        reason, line = str(error), 0
        if match := _AT_LINE.search(reason):
            reason, line = reason[: match.start()], int(match.group(1))
        elif reason.endswith(" (at end of document)"):
            reason, line = reason.removesuffix(" (at end of document)"), text.rstrip().count("\n") + 1
        raise ConfigurationError([Problem(f"is not valid TOML: {reason}", file=label, line=line)]) from None
    return in_stack_shape(Layer(label, document, text=text, is_file=True))


def in_stack_shape(layer: Layer) -> Layer:
    """Turn the seed's shape (the fields of one daemon at the top) into `[daemon.NAME]`."""
    top = layer.document
    if isinstance(top.get("daemon"), dict) or not (DAEMON.by_key.keys() & top.keys() or "name" in top):
        return layer
    name = top.get("name")
    if not isinstance(name, str):
        problem = Problem(
            "a file that describes one daemon needs its `name`, a string",
            file=layer.label,
            line=layer.line(("name",)) or 1,
            key="name",
            hint='or put the keys below a table header: [daemon.NAME]',
        )
        raise ConfigurationError([problem])
    layer.document = {"daemon": {name: {key: value for key, value in top.items() if key not in _NOT_OF_DAEMONS}}}
    layer.document |= {key: top[key] for key in ("stack", "hook") if key in top}
    layer.prefix = ("daemon", name)
    return layer


def merge(layers: Iterable[Layer]) -> dict[str, Any]:
    """All layers as one document; no layer's own document is changed."""
    result: dict[str, Any] = {}
    for layer in layers:
        result = _merged(result, layer.document, ()) if result else layer.document
    return result


def _merged(below: Any, above: Any, at: KeyPath) -> Any:
    if not isinstance(above, dict):
        return above
    if isinstance(below, str) and len(at) == 3 and at[2] == "restart" and below in RESTART.words:
        below = RESTART.words[below]  # `restart = "always"` below `restart = { delay = … }` stays always
    if not isinstance(below, dict):
        return above
    result = dict(below)
    for key, value in above.items():
        result[key] = _merged(below[key], value, (*at, key)) if key in below else value
    return result


def environment_layers(environ: Mapping[str, str], names: Iterable[str]) -> tuple[list[Layer], list[Problem]]:
    """`DUENDE_DAEMON__WEB__SHUTDOWN_TIMEOUT=5s`: one layer each, sorted by variable; `__` stands between keys.

    Daemons are matched without case and with `_` for `. @ -`; only daemons of the files can be spoken of. Keys are
    lower case, save variables below `ENV`, which stay as they are.
    """
    layers: list[Layer] = []
    problems: list[Problem] = []
    by_plain: dict[str, list[str]] | None = None
    for variable in sorted(environ):
        if not variable.startswith(ENV_PREFIX):
            continue
        label = f"environment variable {variable}"
        if by_plain is None:
            by_plain = {}
            for name in names:
                by_plain.setdefault(re.sub(r"[.@-]", "_", name).upper(), []).append(name)
        # Longest name first: a name may itself hold two underscores.
        rest = variable[len(ENV_PREFIX) :]
        plain = max((known for known in by_plain if rest.upper().startswith(f"{known}__")), key=len, default="")
        matches = by_plain.get(plain, [])
        parts = rest[len(plain) + 2 :].split("__") if plain else []
        if len(matches) == 1 and parts and all(parts):
            keys = [parts[0].lower(), *(parts[1:] if parts[0].upper() == "ENV" else map(str.lower, parts[1:]))]
            if keys[0] == "env":
                keys = ["env", "__".join(parts[1:])] if len(parts) > 1 else keys
            layers.append(_assignment(label, ("daemon", matches[0], *keys), environ[variable]))
        elif len(matches) > 1:
            problems.append(Problem(f"could mean any of the daemons {', '.join(matches)}", file=label))
        else:
            name = rest.split("__")[0]
            hint = near_hint(name, list(by_plain)) if plain == "" else "write DUENDE_DAEMON__NAME__KEY=VALUE"
            problems.append(Problem(f"no daemon {name!r} with a key after it", file=label, hint=hint))
    return layers, problems


def override_layers(overrides: Mapping[str, object]) -> tuple[list[Layer], list[Problem]]:
    """Flags: `{"daemon.web.nice": "5"}`. Text is read as for variables; other values are taken as they are."""
    layers: list[Layer] = []
    problems: list[Problem] = []
    for key, value in overrides.items():
        label = f"--set {key}"
        try:
            parts = _parse_key(key)
        except ValueError:
            problems.append(Problem("is not a dotted key", file=label, hint="write --set daemon.NAME.KEY=VALUE"))
            continue
        if parts[0] != "daemon" or len(parts) < 3:
            hint = "write --set daemon.NAME.KEY=VALUE" if parts[0] != "stack" else "the name is part of the main file"
            problems.append(Problem("only keys of daemons can be set here", file=label, hint=hint))
            continue
        layers.append(_assignment(label, parts, value))
    return layers, problems


def parse_overrides(assignments: Iterable[str]) -> dict[str, str]:
    """Flags as they are typed, `daemon.web.nice=5`, as the mapping that `load_stack` takes; ConfigurationError."""
    result = {}
    problems = []
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            problems.append(Problem("has no `=`", file=f"--set {assignment}", hint="write --set daemon.NAME.KEY=VALUE"))
        result[key.strip()] = value
    if problems:
        raise ConfigurationError(problems)
    return result


def _parse_key(key: str) -> KeyPath:
    if "\n" in key or "=" in key or "#" in key:
        raise ValueError
    here: Any = tomllib.loads(f"{key} = 0")
    parts: list[str] = []
    while isinstance(here, dict):
        ((part, here),) = here.items()
        parts.append(part)
    return tuple(parts)


def _assignment(label: str, at: KeyPath, value: object) -> Layer:
    if isinstance(value, str):
        value = _typed(at, value)
    for part in reversed(at):
        value = {part: value}
    assert isinstance(value, dict)
    return Layer(label, value)


def _typed(at: KeyPath, text: str) -> object:
    """A number, boolean, list or table where it is written as TOML has it, the text itself otherwise.

    Where the field holds text anyway, `1.10` stays `1.10`.
    """
    if len(at) == 4 and at[2] == "env":
        return text  # also when it looks like a list or a quoted string
    kind = kind_of(at)
    if kind is not None and kind.is_text and text[:1] not in ('"', "'", "[", "{"):
        return text
    try:
        document = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return document["value"] if len(document) == 1 else text


def drop_in_files(path: str) -> list[str]:
    """`conf.d/*.toml` beside the file, sorted by name; ConfigurationError when the folder can't be listed."""
    folder = os.path.join(os.path.dirname(path), "conf.d")
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigurationError([Problem(f"can't be listed: {error.strerror}", file=folder)]) from error
    return [os.path.join(folder, name) for name in sorted(names) if name.endswith(".toml") and not name.startswith(".")]
