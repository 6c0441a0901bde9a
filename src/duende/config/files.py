"""Read one configuration file whole, whatever lies at its path: never hang, never half, every refusal in words.

A FIFO or device would block a plain open, a symlink loop or an overlong path has an errno that says little; each comes
back as a `ConfigurationError` with the path and what to do.
"""

from __future__ import annotations

import errno
import os
import stat

from duende.errors import ConfigurationError, Problem

__all__ = ["FILE_MAX_BYTES", "read_config_file"]

FILE_MAX_BYTES = 16 * 1024 * 1024  # ours: about 50,000 daemons; keeps a mistaken path from filling memory

_REASONS = {
    errno.ENOENT: "does not exist",
    errno.EACCES: "can't be read: permission denied",
    errno.EPERM: "can't be read: operation not permitted",
    errno.EISDIR: "is a directory, not a file",
    errno.ELOOP: "is a loop of symbolic links (ELOOP)",
    errno.ENAMETOOLONG: "is longer than the system allows for a path or a name (ENAMETOOLONG)",
    errno.ENOTDIR: "can't be reached: a part of the path is not a directory",
    errno.ENXIO: "is not a regular file (a socket or a device without driver)",
}
_PATH_SHOWN_CHARS = 300  # an overlong path is cut in messages; the end of it tells nothing


def read_config_file(path: str | os.PathLike[str]) -> str:
    """The text of a regular UTF-8 file of at most `FILE_MAX_BYTES`; ConfigurationError otherwise."""
    shown = os.fspath(path)
    if len(shown) > _PATH_SHOWN_CHARS:
        shown = f"{shown[:_PATH_SHOWN_CHARS]}…"
    try:
        data = _read(path, shown)
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, f"can't be read: {error.strerror}")
        raise ConfigurationError([Problem(reason, file=shown)]) from error
    except ValueError as error:  # a NUL inside the path
        raise ConfigurationError([Problem(f"is no path: {error}", file=repr(shown))]) from error
    return _decode(data, shown)


def _read(path: str | os.PathLike[str], shown: str) -> bytes:
    # O_NONBLOCK: open(2) of a FIFO without a writer returns at once instead of waiting for one.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigurationError([Problem(f"is {_kind_of(status.st_mode)}, not a regular file", file=shown)])
        chunks = []
        left_bytes = FILE_MAX_BYTES + 1
        while left_bytes and (chunk := os.read(fd, min(left_bytes, 1 << 20))):
            chunks.append(chunk)
            left_bytes -= len(chunk)
    finally:
        os.close(fd)
    if not left_bytes:
        limit = f"{FILE_MAX_BYTES // 1024**2} MiB"
        raise ConfigurationError([Problem(f"is larger than {limit}; is it a configuration file?", file=shown)])
    return b"".join(chunks)


def _kind_of(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a directory"
    if stat.S_ISFIFO(mode):
        return "a FIFO"
    return "a device or socket"


def _decode(data: bytes, shown: str) -> str:
    try:
        return data.decode("utf-8-sig")  # a byte order mark, as some editors write, is no part of the text
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        reason = f"is not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start}"
        raise ConfigurationError([Problem(reason, file=shown, line=line, hint="save it as UTF-8")]) from error
