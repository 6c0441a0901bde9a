"""The kinds of value that are text with a form of its own: accounts, addresses, URLs, classes, names. See kinds.py."""

from __future__ import annotations

from pathlib import Path

from duende.config.interpolate import expand_instance
from duende.config.kinds import Kind, Reader, WrongType, found
from duende.config.locate import KeyPath
from duende.config.paths import NAME_MAX_CHARS, is_name, sanitized_name

__all__ = [
    "account",
    "address",
    "daemon_class",
    "daemon_name",
    "name_hint",
    "name_problem",
    "path_text",
    "platform",
    "program",
    "url",
]


def _read_account(reader: Reader, at: KeyPath, value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        if not 0 <= value < 2**32 - 1:  # (uid_t)-1 means «no change» to setresuid(2)
            raise ValueError(f"{found(value)} can't be a user or group number")
        return str(value)
    return reader.text(value)


account = Kind(
    "account",
    "a name or a number",
    {"anyOf": [{"type": "string", "minLength": 1}, {"type": "integer", "minimum": 0, "maximum": 2**32 - 2}]},
    _read_account,
    check=lambda value: "" if value else "is empty, expected a name or a number",
    is_text=True,
)


def _check_address(value: str) -> str:
    host, _, port = expand_instance(value, 1).rpartition(":")
    if host.startswith("[") != host.endswith("]") or (":" in host and not host.startswith("[")):
        return f'"{value[:80]}" is not HOST:PORT; an IPv6 address stands in brackets: "[::1]:80"'
    if not host or not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535):
        return f'"{value[:80]}" is not HOST:PORT with a port from 1 to 65535'
    return ""


def _read_text(reader: Reader, at: KeyPath, value: object) -> str:
    return reader.text(value)


_VARIABLE = r"\$\{|"  # a schema can't know what a variable holds
address = Kind(
    "address",
    'HOST:PORT such as "127.0.0.1:6390"',
    {"type": "string", "pattern": _VARIABLE + r"^(\[[^\[\]]+\]|[^:\[\]]+):([0-9]{1,5}|[0-9]*\{instance\}[0-9]*)$"},
    _read_text,
    check=_check_address,
    is_text=True,
)


def _check_url(value: str) -> str:
    scheme, separator, rest = value.partition("://")
    if scheme not in ("http", "https") or not separator or not rest or rest[0] in "/?#" or any(c <= " " for c in value):
        return f'"{value[:80]}" is not a URL such as "http://127.0.0.1:8080/healthz"'
    return ""


url = Kind(
    "URL",
    'a URL such as "http://127.0.0.1:8080/healthz"',
    {"type": "string", "pattern": _VARIABLE + r"^https?://[^/?#\s][^\s]*$"},
    _read_text,
    check=_check_url,
    is_text=True,
)


def _read_path_text(reader: Reader, at: KeyPath, value: object) -> str:
    return reader.path_text(value)


path_text = Kind("path", "a path", {"type": "string", "minLength": 1}, _read_path_text, is_text=True)


def _read_program(reader: Reader, at: KeyPath, value: object) -> Path:
    program = reader.text(value)
    return Path(program) if program and "/" not in program and program != "~" else reader.path(program)


program = Kind("path", "a path", {"type": "string", "minLength": 1}, _read_program, (Path,), is_text=True)


def _read_class(reader: Reader, at: KeyPath, value: object) -> str:
    value = reader.text(value)
    module, _, name = value.rpartition(":")
    if module.endswith(".py"):
        return f"{reader.path_text(module)}:{name}"
    return value


def _check_class(value: str) -> str:
    module, _, name = value.rpartition(":")
    parts = name.split(".")
    if not module.endswith(".py"):
        parts += module.split(".")
    if not module or not all(part.isidentifier() for part in parts):
        return f'"{value[:80]}" is not "package.module:Class" or "path/to/file.py:Class"'
    return ""


_WORD = r"[^:.\s/\-0-9][^:.\s/\-]*"
daemon_class = Kind(
    "class",
    '"package.module:Class" or "path/to/file.py:Class"',
    {"type": "string", "pattern": rf"{_VARIABLE}^(.+\.py|{_WORD}(\.{_WORD})*):{_WORD}(\.{_WORD})*$"},
    _read_class,
    check=_check_class,
    is_text=True,
)

daemon_name = Kind(
    "name",
    "a name",
    {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_.@-]{0,62}$"},
    lambda reader, at, value: value if isinstance(value, str) else _raise_wrong_type(),
    check=lambda value: "" if is_name(value) else name_problem(value),
    is_text=True,
)
_NAME_RULE = f"letters, digits and _ . @ -, at most {NAME_MAX_CHARS}, a letter or digit first"


def name_problem(name: str) -> str:
    """Why this is not a valid name: one that is only too long is not told about letters."""
    if name and is_name(name[:NAME_MAX_CHARS]):
        return f'"{name[:20]}…" is too long for a name: {len(name)} characters, at most {NAME_MAX_CHARS} are allowed'
    return f'"{name[:80]}" is not a valid name: {_NAME_RULE}'


def name_hint(name: str) -> str:
    """The nearest valid name; of one that is too long only its owner knows what can go."""
    return "shorten it" if len(name) > NAME_MAX_CHARS else f"did you mean `{sanitized_name(name)}`?"


def _raise_wrong_type() -> str:
    raise WrongType


_PLATFORM_CHARS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")
platform = Kind(
    "platform",
    'a platform such as "native" or "systemd"',
    {"type": "string", "pattern": _VARIABLE + "^[a-z][a-z0-9-]*$"},
    _read_text,
    check=lambda value: (
        "" if value[:1].isalpha() and _PLATFORM_CHARS.issuperset(value) else f'"{value[:40]}" is not a platform\'s name'
    ),
    is_text=True,
)
