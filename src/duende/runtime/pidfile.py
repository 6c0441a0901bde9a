"""PID files: the daemon's own process id and a newline, there whole or not at all, gone when the daemon is."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

__all__ = ["remove", "write"]


def write(path: Path, pid: int) -> None:
    """Put `pid` there in one step (rename(2)); readable by all, like the pid files of other daemons. OSError if it
    can't.
    """
    fd, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(fd, "w", encoding="ascii") as file:
            file.write(f"{pid}\n")
            os.fchmod(file.fileno(), 0o644)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def remove(path: Path, pid: int | None) -> None:
    """Take it away, if it still names `pid` (or if that is unknown): a file that somebody else has written stays."""
    try:
        text = path.read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError:
        return
    if pid is None or text == str(pid):
        path.unlink(missing_ok=True)
