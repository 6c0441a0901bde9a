"""Who has a stack just now: a manager that listens or not yet, a restarter that is bringing one, or nobody.

For clients that found nobody at the socket. The manager's locks are only looked at and never tried: to try one is to
hold it for a moment, in which a manager that begins would find it taken. Imports next to nothing.
"""

from __future__ import annotations

import fcntl
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from duende.config.paths import StackPaths

__all__ = ["RETURN_MAX_S", "Presence", "hold_as_restarter"]

# How long a verb waits for a manager that is coming. The restarter's first start takes some 0.3 s on an idle machine;
# after several deaths in a row it waits longer than anybody wants to look at a prompt, and then that is said.
RETURN_MAX_S = 5.0


class Presence:
    """Asks the kernel, each time anew."""

    def __init__(self, paths: StackPaths) -> None:
        self._locks = (paths.lock, f"{paths.state_dir}/manager.lock")
        self._restarter_lock = _restarter_lock(paths)

    def manager_pid(self) -> int:
        """The process that has the stack's lock, listening or not; 0 if there is none."""
        for path in self._locks:
            pid = _named_in(path)
            if pid and _has_open(pid, path):
                return pid
        return 0

    def has_restarter(self) -> bool:
        """Whether a restarter lives: it starts a manager, or waits for the end of one."""
        try:
            fd = os.open(self._restarter_lock, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return False  # there never was one, or it is not ours to ask
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # restarters share it, and wait for us where they meet us
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def is_expected(self) -> bool:
        """Whether somebody may soon listen at the socket."""
        return bool(self.manager_pid()) or self.has_restarter()


def hold_as_restarter(paths: StackPaths) -> int:
    """A descriptor for a restarter: the kernel lets go of its lock when the process ends, however it ends."""
    fd = os.open(_restarter_lock(paths), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    fcntl.flock(fd, fcntl.LOCK_SH)
    return fd


def _restarter_lock(paths: StackPaths) -> str:
    return f"{paths.state_dir}/restarter.lock"  # not in the runtime directory, which people and machines empty


def _named_in(path: str) -> int:
    try:
        with open(path, "rb") as file:
            text = file.read(64).strip()
    except OSError:
        return 0
    return int(text) if text.isdigit() else 0


def _has_open(pid: int, path: str) -> bool:
    """Whether that process has the file open; a manager has its lock open exactly as long as it holds it."""
    try:
        wanted = os.stat(path)
        for fd in os.listdir(f"/proc/{pid}/fd"):
            try:
                found = os.stat(f"/proc/{pid}/fd/{fd}")
            except OSError:
                continue  # closed meanwhile
            if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
                return True
    except OSError:
        return False  # it has ended, or is another user's that has the number now
    return False
