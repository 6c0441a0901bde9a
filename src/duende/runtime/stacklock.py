"""One manager per stack: files with a lock of the kernel, which no crash can leave locked."""

from __future__ import annotations

import fcntl
import os

from duende.config.paths import StackPaths
from duende.errors import ManagerRunning

__all__ = ["StackLock"]


class StackLock:
    """Both directories are locked: two managers may have different runtime directories and the same state.

    (root in a login session has XDG_RUNTIME_DIR, root in a cron job has not.)
    """

    def __init__(self, stack: str, paths: StackPaths) -> None:
        self._stack = stack
        self._paths = (paths.lock, f"{paths.state_dir}/manager.lock")
        self._fds: list[int] = []

    def take(self) -> None:
        """All or nothing; the files name our process. ManagerRunning when another one holds one of them."""
        for path in self._paths:
            self._take(path)

    def release(self) -> None:
        """The files stay: to remove one while another process opens it would let two have the lock."""
        while self._fds:
            os.close(self._fds.pop())

    def _take(self, path: str) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, 64, 0).decode(errors="replace").strip()
            os.close(fd)
            self.release()
            raise ManagerRunning(
                f"cannot manage stack {self._stack!r}: a manager (pid {holder or 'unknown'}) runs already "
                f"(it holds {path}); `duende status` asks it, `duende down` ends it"
            ) from None
        self._fds.append(fd)
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
