"""One instance as the keeper holds it: its descriptors, how it comes to be, how it ended."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
from typing import Any, NoReturn

import child  # type: ignore[import-not-found]

__all__ = ["Instance", "become", "open_pipes", "start_ticks"]


class Instance:
    """One child: what was asked, what is held for it, how it ended."""

    def __init__(self, key: str, note: Any, fds: list[int], spec: dict[str, Any]) -> None:
        self.key = key
        env = spec.get("env")  # whatever is wrong in a specification is the new child's affair
        self.marker = env.get("DUENDE_INSTANCE_ID") if isinstance(env, dict) else None  # of all its processes
        self.uid = spec.get("uid")
        self.notices: dict[str, str] = {}  # what it has said by sd_notify: the newest of each kind
        self.note = note  # the manager's own words about it, kept for a manager that has lost its memory
        self.fds = fds  # [stdout, stderr] read ends, then the control socket if there is one
        self.has_control = len(fds) > 2
        self.pid = 0
        self.start_ticks = 0
        self.pidfd = -1
        self.status_fd = -1
        self.ready_fd = -1  # the read end of the pipe on which it says that it is ready
        self.status_data = b""
        self.requests: list[tuple[Any, Any]] = []  # (n, channel) of everyone who waits for the spawn's answer
        self.executed = False
        self.exit: dict[str, Any] | None = None

    def describe(self) -> dict[str, Any]:
        return {
            "id": self.key, "pid": self.pid, "start_ticks": self.start_ticks, "note": self.note,
            "control": self.has_control, "executed": self.executed, "exit": self.exit, "notices": self.notices,
        }  # fmt: skip


def open_pipes(with_control: bool, with_ready: bool) -> tuple[list[int], list[int], int, int]:
    """(our ends [stdout, stderr, control?], the child's [stdout, stderr, status, control?, ready?], the read ends of
    status and ready, -1 without).

    OSError when no descriptor is free; nothing stays open then.
    """
    opened: list[int] = []
    try:
        out_r, out_w = output_pipe(opened)
        err_r, err_w = output_pipe(opened)
        status_r, status_w = os.pipe2(os.O_CLOEXEC)
        opened += (status_r, status_w)
        os.set_blocking(status_r, False)
        ours, theirs = [out_r, err_r], [out_w, err_w, status_w]
        if with_control:
            near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            near.setblocking(False)
            opened += (near.detach(), far.detach())
            ours.append(opened[-2])
            theirs.append(opened[-1])
        ready_r = -1
        if with_ready:
            ready_r, ready_w = output_pipe(opened)
            theirs.append(ready_w)
    except OSError:
        for fd in opened:
            os.close(fd)
        raise
    return ours, theirs, status_r, ready_r


def output_pipe(opened: list[int]) -> tuple[int, int]:
    """A pipe with a non-blocking read end and a blocking write end that is open for reading too."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    opened += (read_end, write_end)
    both = os.open(f"/proc/self/fd/{write_end}", os.O_RDWR | os.O_CLOEXEC)
    os.close(write_end)
    opened.remove(write_end)
    opened.append(both)
    return read_end, both


def become(spec: dict[str, Any], theirs: list[int]) -> NoReturn:
    """In the child. Never returns: it becomes the program, or says on the status pipe why not and ends."""
    status_w = theirs[2]
    try:
        number = spec.get("ready_fd")
        if status_w == number:  # that place is taken in a moment
            status_w = fcntl.fcntl(status_w, fcntl.F_DUPFD_CLOEXEC, number + 1)
        control = theirs[3] if spec.get("control") else None
        env = child.prepare(spec, stdout=theirs[0], stderr=theirs[1], control=control)
        if number is not None:
            child.place(theirs[-1], number)
        child.execute(spec["argv"], env)
    except child.ChildError as error:
        os.write(status_w, json.dumps(error.to_json()).encode())
    except BaseException as error:  # noqa: BLE001  (nothing may escape into the keeper's loop in the child)
        os.write(status_w, json.dumps({"stage": f"setup: {error!r}", "errno": errno.EINVAL, "path": ""}).encode())
    finally:
        os._exit(127)


def start_ticks(pid: int) -> int:
    """Field 22 of proc_pid_stat(5); the name in parentheses may hold anything, so count from the last one."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[19])
