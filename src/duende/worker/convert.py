"""From what a configuration file can say to typed values: pure, and with every finding instead of only the first."""

from __future__ import annotations

import collections.abc as abc
import dataclasses
import datetime as dt
import enum
import types
import typing
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

__all__ = ["Converter", "Finding", "is_table_type"]

At = tuple[str | int, ...]
Finding = tuple[At, str, str]  # where below the settings, the reason, what to do

_LISTS: Mapping[Any, Any] = {
    list: list, tuple: tuple, set: set, frozenset: frozenset,
    abc.Sequence: tuple, abc.Iterable: tuple, abc.Collection: tuple, abc.Set: frozenset, abc.MutableSequence: list,
}  # fmt: skip
_MAPPINGS = (dict, abc.Mapping, abc.MutableMapping)
_PLAIN: Mapping[Any, str] = {
    bool: "true or false", int: "an integer", float: "a number", str: "a string",
    dt.datetime: "a date with time", dt.date: "a date", dt.time: "a time",
}  # fmt: skip
_VALUE_MAX_CHARS = 60


def is_table_type(kind: Any) -> bool:
    """Whether it can stand for a whole table of settings."""
    return _is_record(kind) or (get_origin(kind) or kind) in _MAPPINGS


class Converter:
    """Collects `findings`; where there are some, what `convert` has returned means nothing."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []

    def convert(self, kind: Any, value: Any, at: At) -> Any:
        """`value` as `kind`."""
        kind = _bare(kind)
        origin, inside = get_origin(kind) or kind, get_args(kind)
        if kind is Any or kind is object:
            return value
        if origin is Union or origin is types.UnionType:
            return self._union(inside, value, at)
        if origin is Literal:
            return value if _is_one_of(value, inside) else self._expected(_words(inside), value, at)
        if _is_record(origin):
            return self._record(origin, value, at)
        if origin in _MAPPINGS:
            return self._mapping(inside, value, at)
        if origin in _LISTS:
            return self._list(origin, inside, value, at)
        return self._scalar(kind, value, at)

    def _scalar(self, kind: Any, value: Any, at: At) -> Any:
        if kind is None or kind is type(None):
            return None if value is None else self._expected("nothing", value, at)
        if kind in _PLAIN:
            return self._plain(kind, value, at)
        if isinstance(kind, type) and issubclass(kind, enum.Enum):
            return self._member(kind, value, at)
        if kind is dt.timedelta:
            return self._duration(value, at)
        if isinstance(kind, type) and issubclass(kind, PurePath):
            return kind(value) if isinstance(value, str) else self._expected("a path", value, at)
        self._find(at, f"the type {_name(kind)} can't be read from settings", "declare it as Any, and convert in init")
        return None

    def _plain(self, kind: Any, value: Any, at: At) -> Any:
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if kind in (dt.date, dt.time, dt.datetime) and isinstance(value, str):
            try:
                return kind.fromisoformat(value)
            except ValueError:
                return self._expected(_PLAIN[kind], value, at)
        return value if type(value) is kind else self._expected(_PLAIN[kind], value, at)

    def _member(self, kind: type[enum.Enum], value: Any, at: At) -> Any:
        for member in kind:
            if _is_one_of(value, (member.value,)) or value == member.name:
                return member
        return self._expected(_words([member.value for member in kind]), value, at)

    def _duration(self, value: Any, at: At) -> Any:
        from duende.config.units import parse_duration  # here: only settings with durations need it

        if isinstance(value, int | float) and not isinstance(value, bool):
            return dt.timedelta(seconds=value)
        try:
            return dt.timedelta(seconds=parse_duration(value))
        except (ValueError, TypeError):
            return self._expected('a duration: seconds, or text such as "500ms"', value, at)

    def _union(self, kinds: tuple[Any, ...], value: Any, at: At) -> Any:
        attempts = []
        for kind in kinds:
            attempt = Converter()
            found = attempt.convert(kind, value, at)
            if not attempt.findings:
                return found
            attempts.append(attempt)
        # A table that is nearly right is told of in its own words; otherwise what would have been possible.
        nearest = next((one for one in attempts if any(len(finding[0]) > len(at) for finding in one.findings)), None)
        if nearest is not None:
            self.findings += nearest.findings
            return None
        return self._expected(" or ".join(_kind_words(kind) for kind in kinds if kind is not type(None)), value, at)

    def _list(self, origin: Any, inside: tuple[Any, ...], value: Any, at: At) -> Any:
        if not isinstance(value, list | tuple):
            return self._expected("a list", value, at)
        if origin is tuple and inside and inside[-1] is not Ellipsis:
            if len(value) != len(inside):
                return self._expected(f"a list of {len(inside)}", value, at)
            return tuple(self.convert(kind, item, (*at, n)) for n, (kind, item) in enumerate(zip(inside, value)))  # noqa: B905
        kind = inside[0] if inside else Any
        items = [self.convert(kind, item, (*at, n)) for n, item in enumerate(value)]
        try:
            return _LISTS[origin](items)
        except TypeError as error:  # a set of what can't be hashed
            self._find(at, str(error))
            return None

    def _mapping(self, inside: tuple[Any, ...], value: Any, at: At) -> Any:
        if not isinstance(value, Mapping):
            return self._expected("a table", value, at)
        key_kind, kind = inside or (str, Any)
        return {self.convert(key_kind, key, (*at, key)): self.convert(kind, item, (*at, key))
                for key, item in value.items()}  # fmt: skip

    def _record(self, kind: Any, value: Any, at: At) -> Any:
        """A dataclass or a TypedDict."""
        if not isinstance(value, Mapping):
            return self._expected("a table", value, at)
        try:
            hints, required = _fields(kind)
        except (NameError, TypeError) as error:
            self._find(at, f"the annotations of {_name(kind)} can't be understood: {error}")
            return None
        for key in value:
            if key not in hints:
                self._find((*at, key), "unknown key", _near(str(key), list(hints)))
        for key in sorted(required - value.keys()):
            self._find((*at, key), "is missing", f"it is {_kind_words(hints[key])}")
        before = len(self.findings)
        values = {key: self.convert(hints[key], item, (*at, key)) for key, item in value.items() if key in hints}
        if len(self.findings) > before or required - value.keys():
            return None
        if not dataclasses.is_dataclass(kind):
            return values
        try:
            return kind(**values)  # type: ignore[operator]  # mypy has narrowed it to the protocol of instances
        except (ValueError, TypeError) as error:  # of its __post_init__
            self._find(at, str(error) or type(error).__name__)
            return None

    def _expected(self, what: str, value: Any, at: At) -> None:
        self._find(at, f"expected {what}, found {_found(value)}")

    def _find(self, at: At, reason: str, hint: str = "") -> None:
        self.findings.append((at, reason, hint))


def _bare(kind: Any) -> Any:
    """Without what says nothing about the value: Annotated, Final, Required, NewType."""
    while True:
        if hasattr(kind, "__supertype__"):
            kind = kind.__supertype__
        elif get_origin(kind) in (typing.Annotated, typing.Final, typing.Required, typing.NotRequired):
            kind = get_args(kind)[0]
        else:
            return kind


def _is_record(kind: Any) -> bool:
    return isinstance(kind, type) and (dataclasses.is_dataclass(kind) or typing.is_typeddict(kind))


def _fields(kind: Any) -> tuple[dict[str, Any], set[str]]:
    """Names to types, and the names that have to be given."""
    hints = get_type_hints(kind, include_extras=True)
    if not dataclasses.is_dataclass(kind):
        # Annotations that are text (`from __future__ import annotations`) hide NotRequired from the class itself.
        marks = {key: get_origin(hint) for key, hint in hints.items()}
        required = {key for key in kind.__required_keys__ if marks[key] is not typing.NotRequired}
        return hints, required | {key for key, mark in marks.items() if mark is typing.Required}
    fields = [one for one in dataclasses.fields(kind) if one.init]
    missing = dataclasses.MISSING
    needed = {one.name for one in fields if one.default is missing and one.default_factory is missing}
    return {one.name: hints[one.name] for one in fields}, needed


def _is_one_of(value: Any, choices: abc.Iterable[Any]) -> bool:
    return any(type(value) is type(choice) and value == choice for choice in choices)


def _words(choices: abc.Iterable[Any]) -> str:
    return "one of " + ", ".join(_shown(choice) for choice in choices)


def _kind_words(kind: Any) -> str:
    kind = _bare(kind)
    origin = get_origin(kind) or kind
    if kind in _PLAIN:
        return _PLAIN[kind]
    if origin is Literal:
        return _words(get_args(kind))
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return _words([member.value for member in kind])
    if _is_record(origin) or origin in _MAPPINGS:
        return "a table"
    return "a list" if origin in _LISTS else _name(kind)


def _found(value: Any) -> str:
    match value:
        case None:
            return "nothing"
        case Mapping():
            return "a table"
        case list() | tuple():
            return f"a list of {len(value)}"
        case str():
            return f"the string {_shown(value)}"
        case _:
            return _shown(value)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= _VALUE_MAX_CHARS else text[:_VALUE_MAX_CHARS] + "…"


def _name(kind: Any) -> str:
    return kind.__qualname__ if isinstance(kind, type) else str(kind)


def _near(word: str, known: list[str]) -> str:
    import difflib  # here: only for the message

    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean `{near[0]}`?" if near else f"known are {', '.join(known) or 'none'}"
