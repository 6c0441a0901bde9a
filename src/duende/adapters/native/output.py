"""The read ends of an instance's pipes, where nobody else takes them, and where the keeper can't give them."""

from __future__ import annotations

import asyncio
import errno
import os
import stat

__all__ = ["Drain", "reopen_output"]

_DRAIN_BYTES = 64 * 1024  # a pipe's usual size


class Drain:
    """Empties pipes and throws it away. Owns the descriptors."""

    def __init__(self) -> None:
        self._fds: set[int] = set()

    def add(self, fd: int) -> None:
        """Nobody wants this output; a pipe that nobody empties would stop the daemon at 64 KiB."""
        self._fds.add(fd)
        asyncio.get_running_loop().add_reader(fd, self._read, fd)

    def _read(self, fd: int) -> None:
        try:
            if os.read(fd, _DRAIN_BYTES):
                return
        except BlockingIOError:
            return
        self._stop(fd)

    def _stop(self, fd: int) -> None:
        self._fds.discard(fd)
        asyncio.get_running_loop().remove_reader(fd)
        os.close(fd)

    def close(self) -> None:
        """Stop with all."""
        for fd in list(self._fds):
            self._stop(fd)


def reopen_output(pid: int) -> list[int]:
    """Read ends of the pipes that a process has as stdout and stderr. OSError when it has other things there."""
    opened: list[int] = []
    try:
        for number in (1, 2):
            path = f"/proc/{pid}/fd/{number}"
            if not stat.S_ISFIFO(os.stat(path).st_mode):
                raise OSError(errno.ESPIPE, f"its descriptor {number} is no pipe any more")
            opened.append(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError:
        for fd in opened:
            os.close(fd)
        raise
    return opened
