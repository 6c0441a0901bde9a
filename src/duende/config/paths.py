"""Where a stack keeps its sockets and its state, and which file describes it. Imports only `os`: the CLI's fast path.

runtime directory (gone after a reboot): `$DUENDE_RUNTIME_DIR/STACK`, else `$XDG_RUNTIME_DIR/duende/STACK`,
else `/run/duende/STACK` for root and `/tmp/duende-UID/STACK` for others
state directory (kept): `$DUENDE_STATE_DIR/STACK`, else `$XDG_STATE_HOME/duende/STACK`, else `/var/lib/duende/STACK`
for root and `~/.local/state/duende/STACK` for others

As the base directory specification says, a relative XDG path is ignored; a relative DUENDE path is taken from here.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

__all__ = [
    "CONFIG_NAME",
    "NAME_MAX_CHARS",
    "StackPaths",
    "find_config",
    "is_name",
    "make_private",
    "sanitized_name",
    "stack_name_in",
    "stack_name_of",
    "stack_paths",
]

CONFIG_NAME = "duende.toml"
NAME_MAX_CHARS = 63  # a DNS label and a cgroup or unit name still fit with our prefixes
SOCKET_PATH_MAX_BYTES = 107  # sockaddr_un.sun_path is 108 bytes with the closing NUL (unix(7))
_PEEK_MAX_BYTES = 16 * 1024 * 1024  # as files.FILE_MAX_BYTES

_ALNUM = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")
_NAME_CHARS = _ALNUM | frozenset("_.@-")


class StackPaths:
    """The places of one stack, as text. Nothing is created; `make_private` does that for the two directories."""

    __slots__ = (
        "keeper_socket",
        "lock",
        "log_dir",
        "name",
        "notify",
        "runtime_dir",
        "socket",
        "state_db",
        "state_dir",
    )

    def __init__(self, name: str, runtime_dir: str, state_dir: str) -> None:
        self.name = name
        self.runtime_dir = runtime_dir
        self.state_dir = state_dir
        self.socket = f"{runtime_dir}/duende.sock"  # the API
        self.keeper_socket = f"{runtime_dir}/keeper.sock"
        self.notify = f"{runtime_dir}/notify.sock"  # sd_notify(3) of the daemons
        self.lock = f"{runtime_dir}/manager.lock"
        self.state_db = f"{state_dir}/state.db"
        self.log_dir = f"{state_dir}/log"


def is_name(text: str) -> bool:
    """Whether `text` can name a daemon or a stack: `[A-Za-z0-9][A-Za-z0-9_.@-]{0,62}`."""
    return 0 < len(text) <= NAME_MAX_CHARS and text[0] in _ALNUM and _NAME_CHARS.issuperset(text)


def sanitized_name(text: str) -> str:
    """The nearest valid name: other characters become `-`; `stack` when nothing is left."""
    name = "".join(char if char in _NAME_CHARS else "-" for char in text).lstrip("_.@-")
    return name[:NAME_MAX_CHARS] or "stack"


def stack_paths(name: str, environ: Mapping[str, str] | None = None) -> StackPaths:
    """The places of stack `name`; ConfigurationError for a bad name or when a socket's path would be too long."""
    environ = os.environ if environ is None else environ
    if not is_name(name):
        if len(name) > NAME_MAX_CHARS:
            reason = f"{len(name)} characters, at most {NAME_MAX_CHARS} are allowed"
            _refuse("", f"{name[:20]!r}… can't name a stack: {reason}")
        hint = f"use letters, digits and _ . @ -, at most {NAME_MAX_CHARS}, a letter or digit first"
        _refuse("", f"{name!r} can't name a stack", hint)
    paths = StackPaths(name, f"{_runtime_base(environ)}/{name}", f"{_state_base(environ)}/{name}")
    longest = max((paths.socket, paths.keeper_socket, paths.notify), key=len)
    size_bytes = len(os.fsencode(longest))
    if size_bytes > SOCKET_PATH_MAX_BYTES:
        reason = f"a Unix socket's path can have {SOCKET_PATH_MAX_BYTES} bytes, this has {size_bytes}"
        _refuse(longest, reason, "set DUENDE_RUNTIME_DIR to a shorter directory, or shorten the stack's name")
    return paths


def _runtime_base(environ: Mapping[str, str]) -> str:
    if own := environ.get("DUENDE_RUNTIME_DIR"):
        return os.path.abspath(own)
    xdg = environ.get("XDG_RUNTIME_DIR", "")
    if xdg.startswith("/"):
        return os.path.join(xdg, "duende")
    return "/run/duende" if os.geteuid() == 0 else f"/tmp/duende-{os.geteuid()}"


def _state_base(environ: Mapping[str, str]) -> str:
    if own := environ.get("DUENDE_STATE_DIR"):
        return os.path.abspath(own)
    xdg = environ.get("XDG_STATE_HOME", "")
    if xdg.startswith("/"):
        return os.path.join(xdg, "duende")
    if os.geteuid() == 0:
        return "/var/lib/duende"
    home = environ.get("HOME", "")
    if not home.startswith("/"):
        home = os.path.expanduser("~")  # asks the user database
    return os.path.join(home, ".local/state/duende")


def make_private(path: str) -> None:
    """Create directory `path` with mode 0700 (and what is missing above it), or accept one that only we can change.

    Refuses, as ConfigurationError, a symbolic link, a foreign owner, and one that group or others may write: whoever
    can write there could put a socket or a state of theirs in our place. The directory above is looked at too.
    """
    parent = os.path.dirname(path)
    if os.path.basename(parent).startswith("duende") or not os.path.lexists(parent):
        if parent != path:
            make_private(parent)  # `/tmp/duende-UID` is as exposed as what is in it
    else:
        _require_trusted_parent(parent)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass  # the usual case: checked below, as is what another process made meanwhile
    except OSError as error:
        _refuse(path, f"can't create the directory: {error.strerror}", "set DUENDE_RUNTIME_DIR and DUENDE_STATE_DIR")
    try:
        status = os.lstat(path)
    except OSError as error:
        _refuse(path, f"can't look at the directory: {error.strerror}")
    kind = status.st_mode & 0o170000  # S_IFMT of stat(2); the stat module is not worth its import here
    if kind == 0o120000:
        _refuse(path, "is a symbolic link, not a directory of our own", "remove it, or choose another directory")
    if kind != 0o040000:
        _refuse(path, "is not a directory", "remove it, or choose another directory")
    if status.st_uid != os.geteuid():
        _refuse(path, f"belongs to uid {status.st_uid}, not to us (uid {os.geteuid()})", "choose another directory")
    if status.st_mode & 0o022:
        mode = f"{status.st_mode & 0o7777:04o}"
        _refuse(path, f"can be written by group or others (mode {mode})", f"chmod 700 {path}")


def _require_trusted_parent(parent: str) -> None:
    try:
        status = os.stat(parent)
    except OSError as error:
        _refuse(parent, f"can't look at the directory: {error.strerror}")
    if status.st_uid not in (0, os.geteuid()):
        _refuse(parent, f"belongs to uid {status.st_uid}: neither to us nor to root", "choose another directory")
    if status.st_mode & 0o002 and not status.st_mode & 0o1000:
        _refuse(parent, "can be written by everybody and has no sticky bit", f"chmod o-w {parent}")


def find_config(start_dir: str | None = None, environ: Mapping[str, str] | None = None) -> str:
    """`$DUENDE_CONFIG`, or the `duende.toml` in `start_dir` (default: here) or the nearest folder above it."""
    environ = os.environ if environ is None else environ
    if chosen := environ.get("DUENDE_CONFIG"):
        return os.path.abspath(chosen)
    start = os.path.abspath(start_dir or os.getcwd())
    folder = start
    while True:
        candidate = os.path.join(folder, CONFIG_NAME)
        if os.path.lexists(candidate):  # a broken link is found here and explained when it is read
            return candidate
        above = os.path.dirname(folder)
        if above == folder:
            _refuse(start, f"no {CONFIG_NAME} here or in a folder above", "write one, or name a file with -c FILE")
        folder = above


def stack_name_of(config_path: str | os.PathLike[str]) -> str:
    """The name of the stack that this file describes, without reading all of it as TOML where that can be avoided.

    A file that can't be read gives the folder's name: whoever loads it will say what is wrong with it.
    """
    path = os.path.abspath(os.fspath(config_path))
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return sanitized_name(os.path.basename(os.path.dirname(path)))
    try:
        text = b""
        while len(text) <= _PEEK_MAX_BYTES and (chunk := os.read(fd, 1 << 20)):
            text += chunk
    except OSError:  # a directory, a FIFO with a silent writer
        text = b""
    finally:
        os.close(fd)
    return stack_name_in(text.decode("utf-8-sig", "replace"), os.path.dirname(path))


def stack_name_in(text: str, directory: str) -> str:
    """`[stack] name`, or the daemon's name of a single-daemon file, or the folder's name."""
    name = _peeked_name(text)
    if name is None:
        name = _parsed_name(text)
    return name if name and is_name(name) else sanitized_name(os.path.basename(directory))


def _peeked_name(text: str) -> str | None:
    """The name where plain lines make it certain; empty when there is certainly none; None: ask the parser."""
    if '"""' in text or "'''" in text or "\r" in text.replace("\r\n", ""):
        return None
    table = ""
    for line in text.split("\n"):
        line = line.strip()
        if line[:1] == "[":
            table = line.split("#", 1)[0].strip()
            if table.replace(" ", "") != line.split("#", 1)[0].rstrip() or '"' in table or "'" in table:
                return None  # spaces or quotes in the header, or an array that only looks like one
            if table.startswith("[[") or not table.endswith("]"):
                return None
            continue
        if table not in ("", "[stack]") or not line or line[0] == "#":
            continue
        if not table or line[:4] != "name":
            return None  # keys above the first table, or something unusual in [stack]
        key, _, value = line.partition("=")
        quoted = value.strip()
        inner, quote, rest = quoted[1:].partition('"')
        is_plain = quoted[:1] == '"' and quote and "\\" not in inner and rest.strip()[:1] in ("", "#")
        return inner if key.strip() == "name" and is_plain else None
    return ""


def _parsed_name(text: str) -> str:
    import tomllib  # here: it costs more than the rest of a short command

    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError):
        return ""
    stack = document.get("stack")
    if isinstance(stack, dict) and isinstance(stack.get("name"), str):
        return str(stack["name"])
    name = document.get("name")
    return name if isinstance(name, str) else ""


def _refuse(path: str, reason: str, hint: str = "") -> NoReturn:
    from duende.errors import ConfigurationError, Problem  # here: not needed when all is well

    raise ConfigurationError([Problem(reason, file=path, hint=hint)])
