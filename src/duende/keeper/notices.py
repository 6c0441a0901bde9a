"""What daemons say by sd_notify(3): taken at once, kept with the instance, handed to the manager.

The keeper reads it, not the manager: the socket's queue is short (10 datagrams, net.unix.max_dgram_qlen), and a daemon
that finds it full waits; no daemon may stand still because there is no manager at the moment. What a manager has read
and not yet written down when it is killed is told to the next one again.
"""

from __future__ import annotations

import collections
import os
import socket
import time
from collections.abc import Callable
from typing import Any

import sdnotify  # type: ignore[import-not-found]
from instance import Instance  # type: ignore[import-not-found]

__all__ = ["Notices"]

_MESSAGES_AT_ONCE = 64  # then the others have their turn: a daemon may say things faster than we listen
_VALUE_CHARS_MAX = 4096
_EARLY_MAX = 256  # from children of the zygote that are not announced yet
_MARKER = b"DUENDE_INSTANCE_ID="
# sd_notify(3). What isn't among them means nothing to us.
_KINDS = frozenset(
    (
        "READY", "RELOADING", "STOPPING", "STATUS", "ERRNO", "BUSERROR", "EXIT_STATUS", "MAINPID", "WATCHDOG",
        "WATCHDOG_USEC", "EXTEND_TIMEOUT_USEC", "MONOTONIC_USEC",
    )
)  # fmt: skip
# Kinds of which it matters when they came; the time stands beside them, as `WATCHDOG@`, on the monotonic clock.
_TIMED = ("WATCHDOG", "EXTEND_TIMEOUT_USEC")
_ENDS = {"READY": ("RELOADING", "STOPPING"), "RELOADING": ("READY",), "STOPPING": ("READY",)}


class Notices:
    """`tell(instance, pid, notices)` hands on what is new; instance None: nobody here knows the sender."""

    def __init__(
        self, sock: socket.socket, by_pid: dict[int, Instance], instances: dict[str, Instance],
        is_unsure: Callable[[], bool], tell: Callable[[Any, int, dict[str, str]], None],
    ) -> None:  # fmt: skip
        self.sock = sock
        self.by_pid = by_pid
        self.instances = instances
        self.is_unsure = is_unsure
        self.tell = tell
        self.early: collections.deque[tuple[int, dict[str, str]]] = collections.deque(maxlen=_EARLY_MAX)

    def on_readable(self) -> None:
        """Take what has come."""
        for _ in range(_MESSAGES_AT_ONCE):
            try:
                found = sdnotify.receive(self.sock)
            except OSError:
                return  # no memory for it now; it is still there
            if found is None:
                return
            for fd in found.fds:
                os.close(fd)  # of BARRIER: that it is closed is the answer
            said = {key: values[-1][:_VALUE_CHARS_MAX] for key, values in found.message.items() if key in _KINDS}
            if said:
                said.update({f"{key}@": f"{time.monotonic():.6f}" for key in _TIMED if key in said})
                self.take(found.pid, found.uid, said)

    def take(self, pid: int, uid: int, said: dict[str, str]) -> None:
        """`pid` and `uid` come from the kernel."""
        instance = self.by_pid.get(pid) or self.by_marker(pid, uid)
        if instance is None:
            if self.is_unsure():
                self.early.append((pid, said))
            self.tell(None, pid, said)
            return
        for key in said:
            for ended in _ENDS.get(key, ()):
                instance.notices.pop(ended, None)
        instance.notices.update(said)
        if instance.executed:  # otherwise the answer to its spawn has it
            self.tell(instance, pid, said)

    def on_newline(self, instance: Instance) -> bool:
        """Its descriptor of readiness (`ready_fd`) is readable: a newline means READY=1. False: there is no more."""
        try:
            data = os.read(instance.ready_fd, 4096)
        except BlockingIOError:
            return True
        if b"\n" not in data:
            return bool(data)  # s6 has daemons write what they like before the newline
        instance.notices["READY"] = "1"
        if instance.executed:  # otherwise the answer to its spawn has it
            self.tell(instance, instance.pid, {"READY": "1"})
        return False

    def announced(self, instance: Instance) -> None:
        """A child of the zygote has told its number: what it said before is its own."""
        for one in [one for one in self.early if one[0] == instance.pid]:
            self.early.remove(one)
            instance.notices.update(one[1])

    def by_marker(self, pid: int, uid: int) -> Instance | None:
        """A process that says in its environment whose it is, if it is that user's or in that session."""
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                entries = file.read().split(b"\0")
            session = os.getsid(pid)
        except OSError:
            return None  # it has ended, or is another user's
        marker = next((entry[len(_MARKER) :].decode(errors="replace") for entry in entries
                       if entry.startswith(_MARKER)), "")  # fmt: skip
        for instance in self.instances.values() if marker else ():
            if instance.marker == marker:
                trusted = (0, os.geteuid(), instance.uid)
                return instance if uid in trusted or session == instance.pid else None
        return None
