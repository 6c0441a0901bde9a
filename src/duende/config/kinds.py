"""The kinds of value a configuration field can have: how each is read, checked, described to people and to editors.

A `Kind` reads what TOML gave into what `DaemonConfig` holds. Wrong types raise `WrongType`, wrong values ValueError; a
`Reader` turns both into problems at the value's key path, so that one bad value never hides another.
`check` looks at the read value, so that the same rules hold for configurations built by hand.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from duende.config.interpolate import interpolate
from duende.config.locate import KeyPath
from duende.config.units import DURATION_PATTERN, SIZE_PATTERN, parse_duration, parse_size
from duende.model.signals import Signal

__all__ = [
    "MISSING",
    "Kind",
    "Missing",
    "Reader",
    "WrongType",
    "boolean",
    "choice",
    "duration",
    "found",
    "integer",
    "number",
    "path",
    "signal",
    "size",
    "spellings",
    "text",
    "umask",
]


class _Missing(enum.Enum):
    MISSING = "missing"


MISSING: Final = _Missing.MISSING
Missing: TypeAlias = Literal[_Missing.MISSING]


class WrongType(Exception):  # no error of users: the reader always catches it
    """The value is of another TOML type than the kind reads. `expected` overrides the kind's own words."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of value. `schema` is JSON Schema 2020-12 for what may stand in the file.

    `types` are those of the read value. With `is_text`, a value from the environment or a flag is taken as it is.
    """

    name: str
    expected: str
    schema: Mapping[str, Any]
    read: Callable[[Reader, KeyPath, Any], Any]
    types: tuple[type, ...] = (str,)
    check: Callable[[Any], str] = lambda value: ""
    is_text: bool = False


class Reader:
    """Reads values of one stack and collects every problem with its key path."""

    __slots__ = ("directory", "environ", "problems")

    def __init__(self, environ: Mapping[str, str], directory: str) -> None:
        self.environ = environ
        self.directory = directory  # relative paths start here
        self.problems: list[tuple[KeyPath, str, str]] = []  # path, reason, hint

    def fail(self, at: KeyPath, reason: str, hint: str = "") -> Missing:
        """Record a problem."""
        self.problems.append((at, reason, hint))
        return MISSING

    def read(self, kind: Kind, at: KeyPath, value: object) -> Any:
        """The read value, or MISSING after recording why not."""
        try:
            result = kind.read(self, at, value)
        except WrongType as error:
            return self.fail(at, f"expected {error.args[0] if error.args else kind.expected}, found {found(value)}")
        except ValueError as error:
            return self.fail(at, str(error))
        if result is not MISSING and (reason := kind.check(result)):
            return self.fail(at, reason)
        return result

    def text(self, value: object) -> str:
        """A string with its variables replaced; WrongType or ValueError otherwise."""
        if not isinstance(value, str):
            raise WrongType
        if "$" in value:
            value = interpolate(value, self.environ)
        if "\0" in value:
            raise ValueError("contains a NUL byte, which no program can be given")
        return value

    def path(self, value: object) -> Path:
        """An absolute path: variables replaced, `~/` expanded, relative to the configuration's folder."""
        return Path(self.path_text(value))

    def path_text(self, value: object) -> str:
        """As `path`, as text."""
        result = self.text(value)
        if not result:
            raise ValueError("is empty, expected a path")
        if result == "~" or result.startswith("~/"):
            home = self.environ.get("HOME", "")
            if not home.startswith("/"):
                raise ValueError("starts with ~ but HOME is not set in the environment")
            result = home + result[1:]
        return result if result.startswith("/") else f"{self.directory}/{result}"


def found(value: object) -> str:
    """What stands there, in TOML's words."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return f'"{value}"' if len(value) <= 40 else "a string"
        case int() | float():
            return f"the number {value}" if abs(value) < 1e18 else "a number"
        case list() | tuple():
            return "a list"
        case Mapping():
            return "a table"
        case _:
            return "a date or time"


# --- kinds of one value. Texts with a form are in texts.py, containers in containers.py


def _read_text(reader: Reader, at: KeyPath, value: object) -> str:
    return reader.text(value)


text = Kind("string", "a string", {"type": "string"}, _read_text, is_text=True)


def _read_boolean(reader: Reader, at: KeyPath, value: object) -> bool:
    if not isinstance(value, bool):
        raise WrongType
    return value


boolean = Kind("boolean", "true or false", {"type": "boolean"}, _read_boolean, (bool,))


def _bounds(low: float, high: float | None) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value < low or (high is not None and value > high) or value != value:
            wanted = f"at least {low}" if high is None else f"{low} to {high}"
            return f"must be {wanted}, found {value}"
        return ""

    return check


def _bounds_schema(kind: str, low: float, high: float | None) -> dict[str, Any]:
    return {"type": kind, "minimum": low} | ({} if high is None else {"maximum": high})


def integer(low: int, high: int | None = None) -> Kind:
    """A whole number from `low` to `high`."""

    def read(reader: Reader, at: KeyPath, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise WrongType
        return value

    return Kind("integer", "a whole number", _bounds_schema("integer", low, high), read, (int,), _bounds(low, high))


def number(low: float, high: float) -> Kind:
    """A number from `low` to `high`; finite, since `high` is."""

    def read(reader: Reader, at: KeyPath, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise WrongType
        if not low <= value <= high:  # before float(): a huge integer would overflow there
            raise ValueError(f"must be {low:g} to {high:g}, found {found(value)}")
        return float(value)

    return Kind("number", "a number", _bounds_schema("number", low, high), read, (int, float), _bounds(low, high))


def duration(*, positive: bool = False) -> Kind:
    """A duration in seconds; with `positive`, not 0."""

    def read(reader: Reader, at: KeyPath, value: object) -> float:
        try:
            return parse_duration(value)
        except TypeError:
            raise WrongType from None

    def check(value: float) -> str:
        if not 0 <= value < float("inf"):
            return f"must be a finite number of seconds from 0, found {value}"
        return "must be longer than 0" if positive and value == 0 else ""

    low = {"exclusiveMinimum": 0} if positive else {"minimum": 0}
    text_schema: dict[str, Any] = {"type": "string", "pattern": DURATION_PATTERN}
    if positive:
        text_schema["not"] = {"pattern": "^[0.a-z]*$"}  # only zeros
    schema = {"anyOf": [text_schema, {"type": "number", **low}]}
    expected = 'a duration such as "500ms", "30s" or "1m30s", or a number of seconds'
    return Kind("duration", expected, schema, read, (int, float), check)


def size(*, rate: bool = False) -> Kind:
    """A size in bytes; with `rate`, bytes per second."""

    def read(reader: Reader, at: KeyPath, value: object) -> int:
        try:
            return parse_size(value)
        except TypeError:
            raise WrongType from None

    schema = {"anyOf": [{"type": "string", "pattern": SIZE_PATTERN}, {"type": "integer", "minimum": 0}]}
    unit = "bytes per second" if rate else "bytes"
    expected = f'a size such as "512MiB" or "10MB", or a number of {unit}'
    return Kind("rate" if rate else "size", expected, schema, read, (int,), _bounds(0, None))


def _read_path(reader: Reader, at: KeyPath, value: object) -> Path:
    return reader.path(value)


path = Kind("path", "a path", {"type": "string", "minLength": 1}, _read_path, (Path,), is_text=True)


def spellings(options: type[enum.Enum]) -> dict[str, enum.Enum]:
    """How an enum's values may be written: `on-failure`, and `on_failure` as the seed may spell it."""
    return {word: member for member in options for word in (member.value, member.value.replace("-", "_"))}


def choice(options: type[enum.Enum]) -> Kind:
    """One of an enum's values."""
    by_word = spellings(options)
    known = ", ".join(f'"{member.value}"' for member in options)

    def read(reader: Reader, at: KeyPath, value: object) -> enum.Enum:
        if not isinstance(value, str):
            raise WrongType
        if value not in by_word:
            raise ValueError(f'"{value[:60]}" is not one of {known}')
        return by_word[value]

    return Kind("choice", f"one of {known}", {"enum": list(by_word)}, read, (options,), is_text=True)


def _read_signal(reader: Reader, at: KeyPath, value: object) -> Signal:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise WrongType
    if isinstance(value, str) and not (value.isascii() and len(value) <= 10):
        raise ValueError(f'"{value[:20]}" is not a signal; write for example "SIGTERM"')
    return Signal.parse(value)


_SIGNAL_NAMES = "|".join("".join(f"[{char}{char.lower()}]" for char in member.name) for member in Signal).replace(
    "[11]", "1"
).replace("[22]", "2")
_SIGNAL_NUMBERS = "|".join(str(int(member)) for member in Signal)
signal = Kind(
    "signal",
    'a signal such as "SIGTERM" or 15',
    {
        "anyOf": [
            {"enum": [*(member.full_name for member in Signal), *(int(member) for member in Signal)]},
            {"type": "string", "pattern": f"^(([sS][iI][gG])?({_SIGNAL_NAMES})|{_SIGNAL_NUMBERS})$"},
        ]
    },
    _read_signal,
    (Signal,),
)


def _read_umask(reader: Reader, at: KeyPath, value: object) -> int:
    if isinstance(value, str):
        if not 1 <= len(value) <= 4 or not set(value) <= set("01234567"):
            raise ValueError(f'"{value[:20]}" is not an octal mask such as "022"')
        return int(value, 8)
    if isinstance(value, bool) or not isinstance(value, int):
        raise WrongType
    return value


umask = Kind(
    "umask",
    'an octal mask such as "022" or 0o022',
    {"anyOf": [{"type": "string", "pattern": "^0?[0-7]{1,3}$"}, {"type": "integer", "minimum": 0, "maximum": 0o777}]},
    _read_umask,
    (int,),
    lambda value: "" if 0 <= value <= 0o777 else f"must be 0 to 0o777, found {value:#o}",
)
