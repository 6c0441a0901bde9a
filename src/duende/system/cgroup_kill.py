"""Ending and freezing everything in a cgroup, nested cgroups included, on each generation of cgroups.

Theory: a tree that forks while it is killed can outrun a list of its processes. `cgroup.kill` (v2, Linux 5.14) is
atomic in the kernel. Otherwise the tree is frozen first: what is frozen can't fork, so the list is complete; then every
one gets SIGKILL, and the thaw lets it take effect. Without a freezer the list is killed again and again until it is
empty or the bound is reached. Internal to the cgroup modules: OSError passes through and is translated there.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import time
from collections.abc import Callable

from duende.errors import NotFound
from duende.system.cgroup_files import flat_keyed, pids_below, read_text, subtree, write_text
from duende.system.process import pidfd_open, send_signal

__all__ = ["freeze", "is_frozen", "kill_by_freezing", "kill_by_rounds", "kill_v2", "signal_all", "thaw"]

# How long to wait for the freezer. A process in an uninterruptible wait delays it without limit; others freeze within
# 1-5 ms.
_FREEZE_WAIT_S = 0.25
# v1's freezer and its list of processes have no event; 1 ms is a few times what freezing 20 processes took on 6.18.
_POLL_S = 0.001
_KILL_ROUNDS = 100
# Pidfds open at a time; well below the usual 1024 descriptors.
_BATCH = 128


def kill_v2(directory: str) -> bool:
    """Kill by `cgroup.kill`, or by freezing on Linux before 5.14. True: no process of the tree can survive."""
    try:
        write_text(f"{directory}/cgroup.kill", "1")
    except FileNotFoundError:
        return kill_by_freezing(directory, 2)
    except OSError as error:
        if error.errno in (errno.ENODEV, errno.ENOENT):  # removed meanwhile
            return True
        if error.errno != errno.EOPNOTSUPP:  # a threaded cgroup
            raise
        return kill_by_freezing(directory, 2)
    return True


def kill_by_freezing(directory: str, version: int) -> bool:
    """Freeze, SIGKILL all, thaw all. Falls back to rounds when the tree doesn't freeze in time."""
    if not os.path.isdir(directory):
        return True
    freeze(directory, version)
    try:
        frozen = _wait_until(lambda: is_frozen(directory, version), _FREEZE_WAIT_S)
        complete = signal_all(directory, signal.SIGKILL)
    finally:
        thaw(directory, version)
    return (frozen and complete) or kill_by_rounds(directory)


def kill_by_rounds(directory: str) -> bool:
    """SIGKILL what is there until nothing is; False when the bound was reached first (call again)."""
    for _ in range(_KILL_ROUNDS):
        if not pids_below(directory):
            return True
        signal_all(directory, signal.SIGKILL)
        time.sleep(_POLL_S)
    return not pids_below(directory)


def signal_all(directory: str, number: int) -> bool:
    """Send a signal to every process listed now; False when one can't be named in our pid namespace.

    A listed id may be a stranger's by the time we signal it. So pidfds are opened first, and then the list is read
    again: an id still listed belongs to the process we opened, or to one that came after it, and then our pidfd points
    to nobody.
    """
    listed = pids_below(directory)
    nameable = [pid for pid in listed if pid > 0]  # kill(2) takes 0 for our own process group
    for start in range(0, len(nameable), _BATCH):
        fds: dict[int, int] = {}
        try:
            for pid in nameable[start : start + _BATCH]:
                _open_into(fds, pid)
            still_listed = frozenset(pids_below(directory))
            for pid, fd in fds.items():
                if pid in still_listed:
                    _send(fd, number)
        finally:
            for fd in fds.values():
                os.close(fd)
    return len(nameable) == len(listed)


def freeze(directory: str, version: int) -> None:
    """Begin to freeze the subtree; `is_frozen` tells when it is done."""
    write_text(*_switch(directory, version, frozen=True))


def thaw(directory: str, version: int) -> None:
    """Let the subtree run, also nested cgroups that somebody froze by themselves."""
    for current in reversed(subtree(directory)):
        try:
            write_text(*_switch(current, version, frozen=False))
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENODEV):  # removed meanwhile
                raise


def is_frozen(directory: str, version: int) -> bool:
    """Tell whether every process of the subtree stands still."""
    if version == 2:
        return flat_keyed(read_text(f"{directory}/cgroup.events")).get("frozen") == 1
    return read_text(f"{directory}/freezer.state").strip() == "FROZEN"


def _switch(directory: str, version: int, *, frozen: bool) -> tuple[str, str]:
    if version == 2:
        return f"{directory}/cgroup.freeze", "1" if frozen else "0"
    return f"{directory}/freezer.state", "FROZEN" if frozen else "THAWED"


def _wait_until(condition: Callable[[], bool], limit_s: float) -> bool:
    deadline_s = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline_s:
            return False
        select.select([], [], [], _POLL_S)
    return True


def _open_into(fds: dict[int, int], pid: int) -> None:
    try:
        fds[pid] = pidfd_open(pid)
    except NotFound:
        return  # ended by itself


def _send(fd: int, number: int) -> None:
    try:
        send_signal(fd, number)
    except NotFound:
        return  # ended by itself
