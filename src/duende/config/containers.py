"""The kinds of value that hold others: command lines, variables, `after`, exit codes, settings. See kinds.py."""

from __future__ import annotations

import datetime
from typing import Any

from duende.config.daemon import Condition
from duende.config.envfile import parse_env_file
from duende.config.files import read_config_file
from duende.config.interpolate import interpolate
from duende.config.kinds import MISSING, Kind, Missing, Reader, WrongType, choice, found
from duende.config.locate import KeyPath
from duende.config.paths import is_name
from duende.config.texts import name_problem
from duende.errors import ConfigurationError

__all__ = ["after", "arguments", "command", "env", "env_file", "exit_codes", "settings"]

_SETTINGS_DEPTH_MAX = 64  # of tables inside tables; far below Python's recursion limit


def _words(reader: Reader, at: KeyPath, items: list[Any]) -> tuple[str, ...] | Missing:
    words = []
    for index, item in enumerate(items):
        try:
            words.append(str(item) if type(item) is int else reader.text(item))
        except WrongType:
            reader.fail((*at, index), f"expected a string, found {found(item)}")
        except ValueError as error:
            reader.fail((*at, index), str(error))
    return tuple(words) if len(words) == len(items) else MISSING


def _read_arguments(reader: Reader, at: KeyPath, value: object) -> tuple[str, ...] | Missing:
    if not isinstance(value, list):
        raise WrongType
    return _words(reader, at, value)


def _read_command(reader: Reader, at: KeyPath, value: object) -> tuple[str, ...] | Missing:
    if isinstance(value, str):
        return tuple(reader.text(word) for word in split_words(value))
    return _read_arguments(reader, at, value)


def split_words(line: str) -> list[str]:
    """Split as a shell does (POSIX quoting), without its other powers; ValueError when a quote is left open."""
    if line.isascii() and line.isprintable() and not any(char in line for char in "'\"\\"):
        return [word for word in line.split(" ") if word]
    import shlex  # here: most commands need none of it

    try:
        return shlex.split(line)
    except ValueError as error:
        raise ValueError(f"can't be split into words: {error}".lower()) from None


_WORD_SCHEMA = {"type": ["string", "integer"]}
command = Kind(
    "command",
    "a command: a string, or a list of strings",
    {
        "anyOf": [
            {"type": "string", "pattern": r"[^ \t\r\n]"},
            {"type": "array", "minItems": 1, "items": _WORD_SCHEMA, "prefixItems": [{**_WORD_SCHEMA, "minLength": 1}]},
        ]
    },
    _read_command,
    (tuple,),
    lambda value: "" if value and value[0] else "is empty, expected a program",
    is_text=True,
)
arguments = Kind(
    "arguments",
    "a list of strings",
    {"type": "array", "items": _WORD_SCHEMA},
    _read_arguments,
    (tuple,),
)


def _read_env(reader: Reader, at: KeyPath, value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise WrongType
    result = {}
    for key, item in value.items():
        if reason := variable_name_reason(key):
            reader.fail((*at, key), reason)
            continue
        try:
            result[key] = reader.text(_as_text(item))
        except WrongType:
            reader.fail((*at, key), f"expected a string, number or boolean, found {found(item)}")
        except ValueError as error:
            reader.fail((*at, key), str(error))
    return result


def _as_text(item: object) -> object:
    """Numbers and booleans as people write them in an environment: `8080`, `0.5`, `true`."""
    if isinstance(item, bool):
        return "true" if item else "false"
    return str(item) if isinstance(item, int | float) else item


def variable_name_reason(key: str) -> str:
    """Why `key` can't be a variable's name; empty when it can."""
    if not key:
        return "a variable's name is empty"
    if "=" in key or "\0" in key:
        return "a variable's name can't contain `=` or a NUL byte"
    return ""


env = Kind(
    "variables",
    "a table of variables",
    {
        "type": "object",
        "propertyNames": {"minLength": 1, "pattern": "^[^=\\u0000]*$"},
        "additionalProperties": {"type": ["string", "number", "boolean"]},
    },
    _read_env,
    (dict,),
)


def _read_env_file(reader: Reader, at: KeyPath, value: object) -> dict[str, str]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list):
        raise WrongType
    result: dict[str, str] = {}
    for index, name in enumerate(names):
        place = at if isinstance(value, str) else (*at, index)
        try:
            result |= _one_env_file(reader, place, name)
        except WrongType:
            reader.fail(place, f"expected a path, found {found(name)}")
        except ValueError as error:
            reader.fail(place, str(error))
    return result


def _one_env_file(reader: Reader, at: KeyPath, value: object) -> dict[str, str]:
    if not isinstance(value, str):
        raise WrongType
    optional = value.startswith("-")
    path = reader.path_text(value[1:] if optional else value)
    try:
        variables, problems = parse_env_file(read_config_file(path), file=path)
    except ConfigurationError as error:
        if not (optional and isinstance(error.__cause__, FileNotFoundError)):
            for problem in error.problems:
                where = f"{problem.file}:{problem.line}" if problem.line else problem.file
                reader.fail(at, f"{where} {problem.reason}", "a - before the path allows it to be missing")
        return {}
    for problem in problems:
        reader.fail(at, str(problem))
    return variables


env_file = Kind(
    "env files",
    "a path, or a list of paths",
    {"anyOf": [{"type": "string", "minLength": 1}, {"type": "array", "items": {"type": "string", "minLength": 1}}]},
    _read_env_file,
    (dict,),
    is_text=True,
)


def _read_exit_codes(reader: Reader, at: KeyPath, value: object) -> frozenset[int]:
    if not isinstance(value, list):
        raise WrongType
    codes = set()
    for index, item in enumerate(value):
        if type(item) is int and 0 <= item <= 255:
            codes.add(item)
        else:
            reader.fail((*at, index), f"expected an exit code from 0 to 255, found {found(item)}")
    return frozenset(codes)


exit_codes = Kind(
    "exit codes",
    "a list of exit codes",
    {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 255}},
    _read_exit_codes,
    (frozenset, set),
    lambda value: "" if all(type(code) is int and 0 <= code <= 255 for code in value) else "exit codes are 0 to 255",
)

_condition = choice(Condition)


def _read_after(reader: Reader, at: KeyPath, value: object) -> dict[str, Condition]:
    result: dict[str, Condition] = {}
    if isinstance(value, list):
        for index, name in enumerate(value):
            if not isinstance(name, str):
                reader.fail((*at, index), f"expected the name of a daemon, found {found(name)}")
            elif not is_name(name):
                reader.fail((*at, index), name_problem(name))
            else:
                result[name] = Condition.READY
        return result
    if not isinstance(value, dict):
        raise WrongType
    for name, item in value.items():
        if not is_name(name):
            reader.fail((*at, name), name_problem(name))
        elif (condition := reader.read(_condition, (*at, name), item)) is not MISSING:
            result[name] = condition
    return result


_NAME_SCHEMA = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_.@-]{0,62}$"}
after = Kind(
    "dependencies",
    'a list of daemons, or a table such as { cache = "ready" }',
    {
        "anyOf": [
            {"type": "array", "items": _NAME_SCHEMA},
            {"type": "object", "propertyNames": _NAME_SCHEMA, "additionalProperties": _condition.schema},
        ]
    },
    _read_after,
    (dict,),
)


def _read_settings(reader: Reader, at: KeyPath, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise WrongType
    result: dict[str, Any] = _setting(reader, at, value, 0)
    return result


def _setting(reader: Reader, at: KeyPath, value: object, depth: int) -> Any:
    """A value for the class: variables replaced, dates as ISO 8601 text, since settings travel as JSON."""
    if depth > _SETTINGS_DEPTH_MAX:
        return reader.fail(at, f"is nested more than {_SETTINGS_DEPTH_MAX} deep")
    match value:
        case str():
            try:
                return interpolate(value, reader.environ)
            except ValueError as error:
                return reader.fail(at, str(error))
        case dict():
            return {key: _setting(reader, (*at, key), item, depth + 1) for key, item in value.items()}
        case list():
            return [_setting(reader, (*at, index), item, depth + 1) for index, item in enumerate(value)]
        case datetime.date() | datetime.time():  # a datetime is a date
            return value.isoformat()
        case _:
            return value


settings = Kind("settings", "a table of settings", {"type": "object"}, _read_settings, (dict,))
