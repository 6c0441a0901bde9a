"""Receiving sd_notify(3): datagrams of `KEY=VALUE` lines, with the sender's credentials and descriptors.

Rules: who sent a message is what the kernel says (SCM_CREDENTIALS), never what the message says. A message is bounded,
and a line that was cut off is not interpreted. Descriptors nobody asked for are closed at once, so that no sender can
fill our table.
"""

from __future__ import annotations

import array
import os
import socket
import struct
from typing import NamedTuple

__all__ = ["MESSAGE_LIMIT_BYTES", "Notification", "parse", "receive"]

# systemd takes 4 KiB (NOTIFY_BUFFER_MAX, notify-recv.h); four times as much, since STATUS may hold a whole traceback.
MESSAGE_LIMIT_BYTES = 16384
_FDS_LIMIT = 253  # SCM_MAX_FD, net/scm.h
_UCRED = struct.Struct("=iII")  # struct ucred, linux/socket.h: pid, uid, gid
_SCM_CREDENTIALS = getattr(socket, "SCM_CREDENTIALS", None)  # Linux
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
        elif kind == _SCM_CREDENTIALS and len(data) >= _UCRED.size:
            pid, uid, _ = _UCRED.unpack_from(data)
    return pid, uid, list(fds)


def _complete_lines(data: bytes) -> bytes:
    """What was cut off, without the line the cut went through."""
    return data[: data.rfind(b"\n") + 1]
