"""Everything that belongs to an instance: by its cgroup where there is one, otherwise as far as traces lead.

Without a cgroup a process is taken for part of an instance when it is in the leader's session or process group,
descends from the leader, or carries the instance's marker in its environment. A process that cleared its environment,
left the session and whose parents are gone is not found that way; `duende status` says so by `limits_not_enforced`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from duende.adapters.native.render import MARKER
from duende.errors import NotFound, PlatformError
from duende.system import procfs
from duende.system.cgroup import Cgroup
from duende.system.process import pidfd_open, send_signal

__all__ = ["Tree", "is_marked_alive", "kill_marked", "marker_of"]

_KILL_ROUNDS = 20  # a tree that forks while it is killed loses a generation each round


@dataclass(frozen=True, slots=True)
class Tree:
    """The processes of one instance. `leader` may have ended, but its number is still held as a zombie by its
    parent.
    """

    leader: int
    marker: str
    cgroup: Cgroup | None

    def pids(self) -> list[int]:
        """Every living process of the tree, without zombies."""
        if self.cgroup is not None:
            found = set(self.cgroup.pids())
        else:
            found = {
                *procfs.processes_in_session(self.leader), *procfs.processes_in_group(self.leader),
                *procfs.descendants(self.leader), *self._marked(), self.leader,
            }  # fmt: skip
        return sorted(pid for pid in found if pid > 0 and _alive(pid))

    def signal(self, number: int) -> None:
        """Send `number` to each."""
        for pid in self.pids():
            _send(pid, number)

    def kill(self) -> bool:
        """SIGKILL all; True when nothing that we can see is left to be killed (it may still be on its way out)."""
        if self.cgroup is not None:
            return self.cgroup.kill()
        for _ in range(_KILL_ROUNDS):
            pids = [pid for pid in self.pids() if not _dying(pid)]
            if not pids:
                return True
            for pid in pids:
                _send(pid, 9)
        return False

    def survivors(self) -> tuple[str, ...]:
        """Who is still there, with its state and command, for people."""
        found = []
        for pid in self.pids():
            stat = procfs.stat(pid)
            if stat is not None:
                found.append(f"pid {pid} ({stat.comm}) in state {stat.state}")
        return tuple(found)

    def _marked(self) -> list[int]:
        return [pid for pid in procfs.list_pids() if marker_of(pid) == self.marker]


def kill_marked(marker: str) -> None:
    """SIGKILL every process that says it is part of that instance, where neither leader nor cgroup is known."""
    for _ in range(_KILL_ROUNDS):
        pids = [pid for pid in procfs.list_pids() if marker_of(pid) == marker and _alive(pid) and not _dying(pid)]
        if not pids:
            return
        for pid in pids:
            _send(pid, 9)


def is_marked_alive(marker: str) -> bool:
    """Whether a process lives that says it is part of that instance."""
    return any(marker_of(pid) == marker and _alive(pid) for pid in procfs.list_pids())


def marker_of(pid: int) -> str | None:
    """Which instance a process says it is part of, by the environment it was executed with."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            entries = file.read().split(b"\0")
    except OSError:
        return None  # gone, or another user's: then it can't be ours to signal either
    prefix = f"{MARKER}=".encode()
    return next((entry[len(prefix) :].decode(errors="replace") for entry in entries if entry.startswith(prefix)), None)


def _alive(pid: int) -> bool:
    stat = procfs.stat(pid)
    return stat is not None and stat.state not in "ZX"


def _dying(pid: int) -> bool:
    """SIGKILL is already pending: bit 8 of the thread group's shared pending set, proc_pid_status(5)."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith("ShdPnd:"):
                    return bool(int(line.split()[1], 16) & (1 << 8))
    except OSError:
        return True
    return False


def _send(pid: int, number: int) -> None:
    """Through a pidfd: between listing and signalling the number may have become a stranger's, but not silently
    ours.
    """
    try:
        fd = pidfd_open(pid)
    except NotFound:
        return
    try:
        send_signal(fd, number)
    except NotFound:
        return
    except PlatformError:
        return  # another user's process: `survivors` names it
    finally:
        os.close(fd)
