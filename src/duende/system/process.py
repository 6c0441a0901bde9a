"""Processes that can't be confused: pidfds, identities, exit statuses, and the few prctl(2) calls we need.

A process id names a process only as long as nobody has reaped it; then the kernel gives the number to a stranger.
So what is remembered is an `Identity`, and what is signalled is a pidfd that was checked against it.

Without pidfds (Linux before 5.3, macOS) `pidfd_open`, `identify` and `open_identified` raise `NotSupported`: they have
no weaker form that keeps their promise. The parent of a process doesn't need them, since a child's id is not reused
before the parent reaps it.
"""

from __future__ import annotations

import errno
import fcntl
import functools
import os
import select
import signal
import struct
import sys
from dataclasses import dataclass

from duende.errors import NotFound, NotSupported, PermissionDenied
from duende.model.exits import ExitInfo
from duende.system import procfs
from duende.system.failure import translate, translated

__all__ = [
    "ExitStatus",
    "Identity",
    "boot_id",
    "exit_status_of",
    "has_exited",
    "identify",
    "open_identified",
    "pidfd_open",
    "send_signal",
    "set_child_subreaper",
    "set_process_name",
]

_PR_SET_NAME = 15  # linux/prctl.h
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h, Linux 3.4
_TASK_COMM_LEN = 16  # linux/sched.h, with the final NUL

# linux/pidfd.h. The size is PIDFD_INFO_SIZE_VER0; later kernels accept it and fill in only these fields.
_PIDFD_INFO_PID = 1 << 0
_PIDFD_INFO_EXIT = 1 << 3  # Linux 6.15
_PIDFD_INFO = struct.Struct("=QQ11Ii")  # mask, cgroupid, pid … fsgid, exit_code
_PIDFD_GET_INFO = 0xC0000000 | (_PIDFD_INFO.size << 16) | (0xFF << 8) | 11  # _IOWR(0xFF, 11, struct pidfd_info)

# No such process, and what pidfd_open(2) says for the id of a thread that leads no process (EINVAL, later ENOENT).
_GONE = frozenset({errno.ESRCH, errno.ENOENT, errno.EINVAL})


@dataclass(frozen=True, slots=True)
class Identity:
    """One process for ever: its id, when it started (ticks since boot, proc_pid_stat(5) field 22), and of which boot.

    A tick is 10 ms, in which a small pid space can come round. Where the kernel gives every process a number that it
    never uses again (the inode of its pidfd, Linux 6.9), that is in `inode` and decides.
    """

    pid: int
    start_ticks: int
    boot_id: str
    inode: int | None = None


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """How a process ended: by _exit(2) with `code`, or by `signal`."""

    code: int | None
    signal: int | None
    core_dumped: bool = False

    @classmethod
    def from_wait_status(cls, status: int) -> ExitStatus:
        """Read the status word of wait(2)."""
        if os.WIFSIGNALED(status):
            return cls(None, os.WTERMSIG(status), os.WCOREDUMP(status))
        return cls(os.WEXITSTATUS(status), None)

    def to_exit_info(self, *, at_s: float = 0.0) -> ExitInfo:
        """The model's form of it."""
        if self.signal is not None:
            return ExitInfo.from_signal(self.signal, core_dumped=self.core_dumped, at_s=at_s)
        assert self.code is not None
        return ExitInfo.from_code(self.code, at_s=at_s)


def pidfd_open(pid: int) -> int:
    """Open a pidfd (close-on-exec) for whatever process has that id now; the caller closes it.

    Raises NotFound when there is none, NotSupported without pidfds, ResourceLimit when out of descriptors.
    """
    try:
        if sys.platform == "linux":
            return os.pidfd_open(pid)
        else:
            raise NotSupported(sys.platform, "pidfd_open")
    except OSError as error:
        if error.errno in _GONE:
            raise NotFound(f"cannot open process {pid}: there is no such process") from error
        raise translate(error, f"open process {pid}") from error


def send_signal(pidfd: int, number: int) -> None:
    """Send a signal to exactly that process. NotFound once it is reaped; a zombie takes it silently."""
    if sys.platform == "linux":
        with translated(f"send signal {number}"):
            signal.pidfd_send_signal(pidfd, number)
    else:
        raise NotSupported(sys.platform, "pidfd_send_signal")


def has_exited(pidfd: int) -> bool:
    """Tell whether the process has ended (a zombie has). A pidfd is readable from then on."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(0))


def identify(pid: int) -> Identity | None:
    """Take the identity of the process that has this id now; None if there is none. A zombie still has one."""
    fd = _open_or_none(pid)
    if fd is None:
        return None
    try:
        return _identity_behind(fd, pid)
    finally:
        os.close(fd)


def open_identified(identity: Identity) -> int | None:
    """Open a pidfd that certainly is that process; None when it is gone, whoever may have its number now.

    The start time is read after the pidfd was opened, and the pidfd is asked again after that: a process that was not
    reaped in between has kept its number, so what was read was its own.
    """
    if identity.boot_id != boot_id():
        return None
    fd = _open_or_none(identity.pid)
    if fd is None:
        return None
    try:
        found = _identity_behind(fd, identity.pid)
    except BaseException:
        os.close(fd)
        raise
    if found is not None and _same(found, identity):
        return fd
    os.close(fd)
    return None


def exit_status_of(pidfd: int) -> ExitStatus | None:
    """Ask the kernel how a process ended that is not our child: ioctl PIDFD_GET_INFO, Linux 6.15.

    None while it runs, while it is a zombie that its parent has not reaped, and where the kernel doesn't tell. The
    pidfd must have been opened before the process was reaped. Seen on 6.18: exact for exits, signals and core dumps.
    """
    buffer = bytearray(_PIDFD_INFO.size)
    struct.pack_into("=Q", buffer, 0, _PIDFD_INFO_PID | _PIDFD_INFO_EXIT)
    try:
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, buffer)
    except OSError as error:
        # ESRCH: reaped and nothing kept; ENOTTY, EINVAL: a kernel before 6.13, which doesn't know the question.
        if error.errno in (errno.ESRCH, errno.ENOTTY, errno.EINVAL):
            return None
        raise translate(error, "ask for an exit status") from error
    fields = _PIDFD_INFO.unpack(buffer)
    if not fields[0] & _PIDFD_INFO_EXIT:
        return None
    return ExitStatus.from_wait_status(fields[-1] & 0xFFFF)


@functools.cache
def boot_id() -> str:
    """The id of this boot of the machine (random(4)); the same in every container on it."""
    with translated("read the boot id"):
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()


def set_child_subreaper(enabled: bool = True) -> None:
    """Become the parent of orphaned descendants (PR_SET_CHILD_SUBREAPER); not inherited by children."""
    _prctl("become a child subreaper", _PR_SET_CHILD_SUBREAPER, int(enabled))


def set_process_name(name: str) -> None:
    """Set the name that ps and top show for this thread (PR_SET_NAME); cut to 15 bytes, never within a character."""
    text = name.encode()[: _TASK_COMM_LEN - 1].decode(errors="ignore").encode()
    _prctl("set the process name", _PR_SET_NAME, text)


def _prctl(action: str, option: int, value: int | bytes) -> None:
    import ctypes  # here: it takes longer to import than all the rest of this file

    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "prctl"):
        raise NotSupported(sys.platform, f"prctl ({action})")
    argument = ctypes.c_ulong(value) if isinstance(value, int) else ctypes.c_char_p(value)
    zero = ctypes.c_ulong(0)
    if libc.prctl(ctypes.c_int(option), argument, zero, zero, zero) != 0:
        number = ctypes.get_errno()
        raise translate(OSError(number, os.strerror(number)), action)


def _open_or_none(pid: int) -> int | None:
    if pid <= 0:
        return None
    try:
        return pidfd_open(pid)
    except NotFound:
        return None


def _identity_behind(fd: int, pid: int) -> Identity | None:
    """The identity of the process behind `fd`, whose id is `pid`; None if it was reaped meanwhile."""
    stat = procfs.stat(pid)
    if stat is None or not _is_unreaped(fd):
        return None
    return Identity(pid, stat.start_ticks, boot_id(), _pidfs_inode(fd))


def _is_unreaped(fd: int) -> bool:
    try:
        send_signal(fd, 0)
    except NotFound:
        return False
    except PermissionDenied:
        return True  # another user's: it is there
    return True


def _same(found: Identity, wanted: Identity) -> bool:
    if found.inode is not None and wanted.inode is not None and found.inode != wanted.inode:
        return False
    return (found.pid, found.start_ticks, found.boot_id) == (wanted.pid, wanted.start_ticks, wanted.boot_id)


def _pidfs_inode(fd: int) -> int | None:
    """The number that pidfs gives a process, never twice in one boot; None before Linux 6.9, where all share one."""
    status = os.fstat(fd)
    return None if status.st_dev == _anonymous_device() else status.st_ino


@functools.cache
def _anonymous_device() -> int:
    """The device of anonymous inodes, where pidfds were before they had a file system of their own."""
    if sys.platform == "linux":
        with select.epoll() as epoll:
            return os.fstat(epoll.fileno()).st_dev
    else:
        return -1
