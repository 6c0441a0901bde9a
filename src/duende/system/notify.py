"""The sd_notify(3) protocol: making the socket and sending to it. Receiving is the keeper's: see keeper/sdnotify.py."""

from __future__ import annotations

import array
import errno
import os
import socket
import stat
import sys
from collections.abc import Sequence

from duende.errors import InvalidState, NotSupported, OperationTimeout, PlatformIoError
from duende.keeper.sdnotify import MESSAGE_LIMIT_BYTES, Notification, parse, receive
from duende.system.failure import translate, translated

__all__ = ["MESSAGE_LIMIT_BYTES", "Notification", "make_socket", "parse", "receive", "send"]

_PATH_LIMIT_BYTES = 107  # sun_path of unix(7), without the final NUL
# A receiver that doesn't read (its queue is 10 datagrams, net.unix.max_dgram_qlen) must not stop the daemon.
_SEND_LIMIT_S = 5.0


def send(
    state: str, fds: Sequence[int] = (), path: str | None = None, *, limit_s: float = _SEND_LIMIT_S
) -> bool:  # fmt: skip
    """Send a message to `path`, or to $NOTIFY_SOCKET; False, and nothing sent, when neither is set.

    `path` is absolute or begins with `@` (abstract). Raises OperationTimeout when the receiver takes nothing for
    `limit_s`.
    """
    target = os.environ.get("NOTIFY_SOCKET") if path is None else path
    if not target:
        return False
    address = _address(target)
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(limit_s)
        try:
            sock.sendmsg([state.encode(errors="surrogateescape")], rights, 0, address)
        except (TimeoutError, BlockingIOError) as error:
            raise OperationTimeout(limit_s) from error
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
