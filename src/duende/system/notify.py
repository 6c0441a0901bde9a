"""The sd_notify(3) protocol: datagrams of `KEY=VALUE` lines, with the sender's credentials and descriptors.

Rules: who sent a message is what the kernel says (SCM_CREDENTIALS), never what the message says. A message is bounded,
and a line that was cut off is not interpreted. Descriptors nobody asked for are closed at once, so that no sender can
fill our table.
"""

from __future__ import annotations

import array
import errno
import os
import socket
import stat
import struct
import sys
from collections.abc import Sequence
from typing import NamedTuple

from duende.errors import InvalidState, NotSupported, OperationTimeout, PlatformIoError
from duende.system.failure import translate, translated

__all__ = ["MESSAGE_LIMIT_BYTES", "Notification", "make_socket", "parse", "receive", "send"]

# systemd takes 4 KiB (NOTIFY_BUFFER_MAX, notify-recv.h); four times as much, since STATUS may hold a whole traceback.
MESSAGE_LIMIT_BYTES = 16384
_FDS_LIMIT = 253  # SCM_MAX_FD, net/scm.h
_UCRED = struct.Struct("=iII")  # struct ucred, linux/socket.h: pid, uid, gid
_PATH_LIMIT_BYTES = 107  # sun_path of unix(7), without the final NUL
# A receiver that doesn't read (its queue is 10 datagrams, net.unix.max_dgram_qlen) must not stop the daemon.
_SEND_LIMIT_S = 5.0
# The only messages that come with descriptors: sd_pid_notify_with_fds(3), sd_notify_barrier(3).
_WITH_FDS = ("FDSTORE", "BARRIER")


class Notification(NamedTuple):
    """One datagram. `pid` is 0 for a sender outside our pid namespace; the receiver closes `fds`."""

    message: dict[str, list[str]]
    pid: int
    uid: int
    fds: list[int]


def parse(data: bytes) -> dict[str, list[str]]:
    """Read the lines of a message; a key may come several times. Unknown keys are kept, lines without `=` are not.

    What is not UTF-8 becomes U+FFFD. Of more than MESSAGE_LIMIT_BYTES only the complete lines within the limit count.
    """
    if len(data) > MESSAGE_LIMIT_BYTES:
        data = _complete_lines(data[:MESSAGE_LIMIT_BYTES])
    found: dict[str, list[str]] = {}
    for line in data.rstrip(b"\0").decode(errors="replace").split("\n"):
        key, separator, value = line.partition("=")
        if separator and key:
            found.setdefault(key, []).append(value)
    return found


def send(state: str, fds: Sequence[int] = (), path: str | None = None) -> bool:
    """Send a message to `path`, or to $NOTIFY_SOCKET; False, and nothing sent, when neither is set.

    `path` is absolute or begins with `@` (abstract). Raises OperationTimeout when the receiver takes nothing for 5 s.
    """
    target = os.environ.get("NOTIFY_SOCKET") if path is None else path
    if not target:
        return False
    address = _address(target)
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(_SEND_LIMIT_S)
        try:
            sock.sendmsg([state.encode(errors="surrogateescape")], rights, 0, address)
        except TimeoutError as error:
            raise OperationTimeout(_SEND_LIMIT_S) from error
        except OSError as error:
            raise translate(error, f"notify {target}") from error
    return True


def make_socket(path: str, *, mode: int = 0o600) -> socket.socket:
    """Bind a non-blocking socket whose messages carry credentials. A stale socket file at `path` is replaced.

    Daemons of other users need a `mode` that lets them write. Linux only.
    """
    if not hasattr(socket, "SO_PASSCRED"):
        raise NotSupported(sys.platform, "receiving notifications (SO_PASSCRED)")
    address = _address(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)  # Python makes it close-on-exec
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        with translated(f"listen for notifications on {path}"):
            if not path.startswith("@"):
                _remove_stale(path)
            sock.bind(address)
            if not path.startswith("@"):
                os.chmod(path, mode)
    except BaseException:
        sock.close()
        raise
    return sock


def receive(sock: socket.socket) -> Notification | None:
    """Take one message; None when none waits. Never blocks on a socket of `make_socket`.

    Descriptors are handed on only with FDSTORE or BARRIER, and only if all of them arrived; else they are closed.
    """
    try:
        data, ancillary, flags, _ = sock.recvmsg(
            MESSAGE_LIMIT_BYTES,
            socket.CMSG_SPACE(_UCRED.size) + socket.CMSG_SPACE(_FDS_LIMIT * 4),
            getattr(socket, "MSG_CMSG_CLOEXEC", 0),
        )
    except BlockingIOError:
        return None
    except OSError as error:
        raise translate(error, "receive a notification") from error
    pid, uid, fds = _ancillary(ancillary)
    message = parse(_complete_lines(data) if flags & socket.MSG_TRUNC else data)
    if fds and (flags & socket.MSG_CTRUNC or not any(key in message for key in _WITH_FDS)):
        for fd in fds:
            os.close(fd)
        fds = []
    return Notification(message, pid, uid, fds)


def _ancillary(items: list[tuple[int, int, bytes]]) -> tuple[int, int, list[int]]:
    """The sender's pid and uid, and all descriptors; 0 and -1 without credentials, which no right may be built on."""
    pid, uid = 0, -1
    fds = array.array("i")
    for level, kind, data in items:
        if level != socket.SOL_SOCKET:
            continue
        if kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
        elif kind == getattr(socket, "SCM_CREDENTIALS", None) and len(data) >= _UCRED.size:
            pid, uid, _ = _UCRED.unpack_from(data)
    return pid, uid, list(fds)


def _complete_lines(data: bytes) -> bytes:
    """What was cut off, without the line the cut went through."""
    return data[: data.rfind(b"\n") + 1]


def _address(path: str) -> str:
    """The path as the socket module wants it: an abstract one begins with a NUL."""
    if not path.startswith(("/", "@")) or len(path) < 2:
        raise PlatformIoError(
            f"cannot use {path!r} as a notification socket: it is neither an absolute path nor an abstract name (@…)"
        )
    length = len(os.fsencode(path))
    if length > _PATH_LIMIT_BYTES:
        raise PlatformIoError(
            f"cannot use {path!r} as a notification socket: {length} bytes, at most {_PATH_LIMIT_BYTES} fit a socket's "
            "address; choose a shorter directory"
        )
    return "\0" + path[1:] if path.startswith("@") else path


def _remove_stale(path: str) -> None:
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise InvalidState(f"cannot listen on {path}: {os.strerror(errno.EEXIST)}, and it is not a socket")
    os.unlink(path)
