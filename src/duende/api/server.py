"""The API's server on a Unix socket.

Only the user who runs the manager, and root, may speak to it. The kernel says who connects (SO_PEERCRED, unix(7)); the
socket's mode 0600 in a directory of mode 0700 says it a second time. One server per path: the manager's lock sees to
that, so a socket that lies there is a leftover and is replaced, in one step, so that nobody ever finds none.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import struct

from duende.api.app import Application
from duende.api.connection import HEARTBEAT_S, IDLE_S, REQUEST_S, Connection
from duende.api.facade import Manager
from duende.api.problems import HttpProblem
from duende.errors import NotSupported, PlatformIoError

__all__ = ["CONNECTIONS_MAX", "ApiServer"]

CONNECTIONS_MAX = 256  # file descriptors are the manager's scarcest good: the usual soft limit is 1024
_BACKLOG = 128
_UCRED = struct.Struct("3i")  # pid, uid, gid: struct ucred, sys/socket.h

_log = logging.getLogger("duende.api")


class ApiServer:
    """Serves one manager. The limits are parameters so that tests need not wait."""

    def __init__(
        self,
        manager: Manager,
        *,
        request_s: float = REQUEST_S,
        idle_s: float = IDLE_S,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        self._application = Application(manager)
        self._request_s = request_s
        self._idle_s = idle_s
        self._heartbeat_s = heartbeat_s
        self._server: asyncio.Server | None = None
        self._path = ""
        self._inode = 0
        self._connections: dict[asyncio.Task[None], Connection] = {}

    async def listen(self, socket_path: str) -> None:
        """Serve at `socket_path`, whose directory exists and is private. PlatformIoError when that can't be."""
        if not hasattr(socket, "SO_PEERCRED"):
            raise NotSupported(os.uname().sysname, "asking the kernel who connects to a Unix socket (SO_PEERCRED)")
        sock = _bound(socket_path)
        self._path, self._inode = socket_path, os.stat(socket_path).st_ino
        self._server = await asyncio.start_unix_server(self._accept, sock=sock, backlog=_BACKLOG)

    async def listen_anew(self) -> None:
        """Serve at the same path again: what was there may have been removed. Connections go on."""
        before = self._server
        await self.listen(self._path)
        if before is not None:
            before.close()

    async def close(self, grace_s: float = 5.0) -> None:
        """Take no more connections, end streams and idle ones, let answers under way finish within `grace_s`."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        with contextlib.suppress(FileNotFoundError):  # removed by somebody else: as it should be
            if os.stat(self._path).st_ino == self._inode:  # not the socket of a manager that came after us
                os.unlink(self._path)
        for task, connection in self._connections.items():
            connection.is_last = True
            if not connection.is_answering:
                task.cancel()
        if self._connections:
            await asyncio.wait(self._connections, timeout=grace_s)
        tasks = list(self._connections)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(
            reader,
            writer,
            self._application.respond,
            request_s=self._request_s,
            idle_s=self._idle_s,
            heartbeat_s=self._heartbeat_s,
        )
        refusal = self._refusal(writer.get_extra_info("socket"))
        task = asyncio.create_task(connection.run() if refusal is None else connection.refuse(refusal))
        self._connections[task] = connection
        task.add_done_callback(self._ended)

    def _refusal(self, sock: socket.socket) -> HttpProblem | None:
        pid, uid, _ = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        if uid not in (0, os.geteuid()):
            _log.warning("refused a connection of uid %d (process %d)", uid, pid)
            detail = f"uid {uid} may not speak to this manager; uid {os.geteuid()} and root may"
            return HttpProblem(403, "foreign-user", detail, closes=True)
        if len(self._connections) >= CONNECTIONS_MAX:
            detail = f"{CONNECTIONS_MAX} connections are open, which is the most; try again later"
            return HttpProblem(503, "too-many-connections", detail, headers=(("Retry-After", "1"),), closes=True)
        return None

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._connections[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a connection ended by a bug", exc_info=error)


def _bound(path: str) -> socket.socket:
    """A socket that listens at `path` and never could be reached with another mode than 0600."""
    # Bound beside and renamed: the mode is right before anybody can find it, without umask(2), which is the whole
    # process's and would touch files that other threads make at this moment.
    beside = os.path.join(os.path.dirname(path), ".new")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with contextlib.suppress(FileNotFoundError):  # left by a manager that was killed between bind and rename
            os.unlink(beside)
        sock.bind(beside)
        os.chmod(beside, 0o600)
        sock.listen(_BACKLOG)
        os.rename(beside, path)
    except OSError as error:
        sock.close()
        why = "the path is longer than 107 bytes" if error.errno is None else os.strerror(error.errno)
        hint = "; is there enough space?" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise PlatformIoError(f"cannot listen at {path}: {why}{hint}") from error
    return sock
