"""The manager's side of the keeper: start it or find it, ask it, hear from it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from duende.errors import PlatformIoError
from duende.keeper import __file__ as _keeper_file
from duende.keeper.wire import PROTOCOL_VERSION, Channel, WireError
from duende.system import notify

__all__ = ["KeeperClient", "KeeperInstance"]

_HELLO_TIMEOUT_S = 10.0  # a new interpreter takes 20-100 ms; a machine that swaps, seconds
_FDS_PER_INSTANCE = 4  # two pipes, a pidfd, a control line
_RESERVED_FDS = 8  # for the API, logs, the state database
_NOT_TOLD = -1  # how many instances the keeper will list
_DEATH_S = 1.0  # for a keeper whose socket is closed already: it is in the midst of ending
_LISTEN_BACKLOG = 8  # one manager connects at a time


class KeeperInstance:
    """What the keeper says of one instance, with the descriptors it gave us (ours to close)."""

    def __init__(self, message: dict[str, Any], fds: list[int]) -> None:
        self.key: str = message["id"]
        self.pid: int = message["pid"]
        self.start_ticks: int = message["start_ticks"]
        self.note: dict[str, Any] = message["note"] or {}
        self.executed: bool = message["executed"]
        self.exit: dict[str, Any] | None = message["exit"]
        self.notices: dict[str, str] = message["notices"]
        # Without descriptors when we have said that we have them, or when this process had none free.
        self.is_incomplete = not fds
        self._fds = fds

    @property
    def stdout(self) -> int:
        """The read end of its standard output."""
        return self._fds[0]

    @property
    def stderr(self) -> int:
        """The read end of its standard error."""
        return self._fds[1]

    @property
    def control(self) -> int | None:
        """The line to the worker of a Python class."""
        return self._fds[2] if len(self._fds) > 2 else None

    def close(self) -> None:
        """Close the descriptors, of an instance that nobody wants to know about."""
        for fd in self._fds:
            os.close(fd)


class KeeperClient:
    """One connection. `on_event` gets every event of the keeper; `on_lost` is called once when the connection
    breaks; `on_stray` gets an instance whose spawn was asked for on an earlier connection.
    """

    def __init__(
        self, directory: Path, on_event: Callable[[dict[str, Any]], None], on_lost: Callable[[str], None],
        on_stray: Callable[[KeeperInstance], None],
    ) -> None:  # fmt: skip
        self.socket_path = directory / "keeper.sock"
        self.notify_path = directory / "notify.sock"
        self.log_path = directory / "keeper.log"
        self.pid: int | None = None
        self.found_running = False  # the keeper was there already
        self._on_event = on_event
        self._on_lost = on_lost
        self._on_stray = on_stray
        self._channel: Channel | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._replies: dict[int, asyncio.Future[tuple[dict[str, Any], list[int]]]] = {}
        self._listed: list[KeeperInstance] = []
        self._list_complete: asyncio.Future[None] | None = None
        self._expected = _NOT_TOLD
        self._n = 0

    @property
    def connected(self) -> bool:
        """Whether there is a keeper to ask."""
        return self._channel is not None

    async def open(self, have: Sequence[str] = ()) -> list[KeeperInstance]:
        """Connect to the keeper that is there, or start one; return the instances it holds.

        `have` names those whose descriptors we hold already: they need not fit a second time when descriptors are
        short.
        """
        loop = asyncio.get_running_loop()
        sock = self._connected_socket()
        self._channel = Channel(sock)
        self._listed, self._expected = [], _NOT_TOLD
        self._list_complete = loop.create_future()
        loop.add_reader(sock.fileno(), self._readable)
        try:
            async with asyncio.timeout(_HELLO_TIMEOUT_S):
                hello, _ = await self._ask({"op": "hello", "v": PROTOCOL_VERSION, "have": list(have)})
                self.pid = hello["pid"]
                if len(self._listed) < hello["count"]:
                    await self._list_complete
            if self._channel is None:  # it broke between the answer and us
                raise EOFError("it went away again")
        except PlatformIoError:
            self.close()
            raise
        except (TimeoutError, EOFError) as error:
            self.close()
            raise PlatformIoError(f"the keeper at {self.socket_path} does not answer: {error or 'time-out'}") from error
        if hello["v"] != PROTOCOL_VERSION:
            self.close()
            raise PlatformIoError(f"the keeper speaks protocol {hello['v']}, this duende {PROTOCOL_VERSION}")
        return self._listed

    def close(self) -> None:
        """Leave; the keeper goes on."""
        self._disconnect()
        self._let_go_of_process(0.0)

    def open_notify_to_others(self) -> None:
        """Let daemons of other users reach the sd_notify socket: they may pass through our directories, not look.

        Who sends is told by the kernel (SCM_CREDENTIALS), and the API's and keeper's sockets stay 0600.
        """
        for directory in (self.socket_path.parent, self.socket_path.parent.parent):
            status = directory.stat()
            if status.st_uid == os.geteuid() and not status.st_mode & 0o001:
                directory.chmod(status.st_mode & 0o777 | 0o011)
        self.notify_path.chmod(0o666)

    def has_room(self, instances: int) -> bool:
        """Whether so many more instances leave this process the descriptors that it needs to be spoken to.

        The kernel gives the lowest free number, so that number tells how many are taken, as long as they lie close.
        """
        if self._channel is None:
            return True
        try:
            lowest = os.dup(self._channel.fileno())
        except OSError:
            return False
        os.close(lowest)
        return lowest + _FDS_PER_INSTANCE * instances + _RESERVED_FDS <= resource.getrlimit(resource.RLIMIT_NOFILE)[0]

    async def spawn(self, key: str, spec: dict[str, Any], note: dict[str, Any]) -> KeeperInstance | dict[str, Any]:
        """Ask for an instance; the answer is it, or the keeper's error {stage, errno, path}."""
        try:
            reply, fds = await self._ask({"op": "spawn", "id": key, "spec": spec, "note": note})
        except WireError:  # over the limit of a frame, which is far over the kernel's limit of an execve
            return {"stage": "exec", "errno": errno.E2BIG, "path": str(spec["argv"][0])}
        return reply["error"] if "error" in reply else KeeperInstance(reply, fds)

    async def start_zygote(self, argv: list[str], env: dict[str, str]) -> int:
        """Start the warm process for Python classes, or find it; its process id."""
        reply, _ = await self._ask({"op": "zygote", "argv": argv, "env": env})
        if "error" in reply:
            raise PlatformIoError(f"cannot start the zygote: {os.strerror(reply['error']['errno'])}")
        return int(reply["pid"])

    def release(self, key: str) -> None:
        """The exit has been taken."""
        self._tell({"op": "release", "id": key})

    async def quit(self, patience_s: float = 0.0) -> bool:
        """Ask the keeper to end; it does so only when it holds no instance, now or within `patience_s`.

        What it may still hold without our knowing: a start that was given up and is only just being ended.
        """
        try:
            async with asyncio.timeout(patience_s or _HELLO_TIMEOUT_S):
                reply, _ = await self._ask({"op": "quit", "wait": patience_s > 0})
        except TimeoutError:
            return False
        except EOFError:
            return True
        if reply["ok"] and self._process is not None:
            process, self._process = self._process, None
            await asyncio.to_thread(process.wait)
        if reply["ok"]:
            for path in (self.socket_path, self.notify_path):
                path.unlink(missing_ok=True)
        return bool(reply["ok"])

    # --- inside

    def _connected_socket(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            try:
                sock.connect(str(self.socket_path))
                self.found_running = True
            except (FileNotFoundError, ConnectionRefusedError):
                self._start_keeper()
                self.found_running = False
                sock.connect(str(self.socket_path))
        except OSError as error:
            sock.close()
            where = f": {error.filename}" if error.filename else ""
            raise PlatformIoError(
                f"cannot reach or start the keeper at {self.socket_path}: {error.strerror or error}{where}"
            ) from error
        except BaseException:
            sock.close()
            raise
        return sock

    def _start_keeper(self) -> None:
        for path in (self.socket_path, self.notify_path):
            path.unlink(missing_ok=True)
        with contextlib.ExitStack() as opened:
            log = os.open(self.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
            opened.callback(os.close, log)
            listener = opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            notify_socket = opened.enter_context(notify.make_socket(str(self.notify_path)))
            listener.bind(str(self.socket_path))
            os.chmod(self.socket_path, 0o600)
            listener.listen(_LISTEN_BACKLOG)
            # -I -S: no environment, no site-packages: nothing of the outside can change what the keeper runs.
            program = Path(_keeper_file).with_name("__main__.py")
            argv = [sys.executable, "-I", "-S", str(program), str(listener.fileno()), str(notify_socket.fileno())]
            self._let_go_of_process(_DEATH_S)
            self._process = subprocess.Popen(
                argv, pass_fds=(listener.fileno(), notify_socket.fileno()), stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True, cwd="/",
            )  # fmt: skip

    def _let_go_of_process(self, patience_s: float) -> None:
        """Reap the keeper that we have started, if it has ended; it may outlive us, and no ResourceWarning for that."""
        if self._process is not None:
            try:
                self._process.wait(patience_s)
            except subprocess.TimeoutExpired:
                self._process.returncode = 0
            self._process = None

    async def _ask(self, message: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
        """Send a request and await its reply. EOFError when the keeper goes away first."""
        self._n += 1
        n = self._n
        reply: asyncio.Future[tuple[dict[str, Any], list[int]]] = asyncio.get_running_loop().create_future()
        self._replies[n] = reply
        self._tell({**message, "n": n})
        try:
            return await reply
        except asyncio.CancelledError:
            if reply.done() and not reply.cancelled() and reply.exception() is None:
                for fd in reply.result()[1]:  # it came as we were cancelled: nobody else knows of its descriptors
                    os.close(fd)
            raise
        finally:
            self._replies.pop(n, None)

    def _tell(self, message: dict[str, Any]) -> None:
        if self._channel is None:
            self._fail_replies("not connected to the keeper")
            return
        try:
            self._channel.send(message)
        except OSError as error:
            self._lost(f"the keeper is gone: {error.strerror}")
            return
        if self._channel.wants_write:
            asyncio.get_running_loop().add_writer(self._channel.fileno(), self._writable)

    def _writable(self) -> None:
        assert self._channel is not None
        try:
            self._channel.flush()
        except OSError as error:
            self._lost(f"the keeper is gone: {error.strerror}")
            return
        if not self._channel.wants_write:
            asyncio.get_running_loop().remove_writer(self._channel.fileno())

    def _readable(self) -> None:
        assert self._channel is not None
        try:
            frames = self._channel.receive()
        except (EOFError, OSError, WireError) as error:
            self._lost(f"the connection to the keeper broke: {error}")
            return
        for message, fds in frames:
            self._take(message, fds)

    def _take(self, message: dict[str, Any], fds: list[int]) -> None:
        reply = self._replies.get(message.get("n", 0))
        if reply is not None and not reply.done():
            self._expected = message.get("count", self._expected)
            reply.set_result((message, fds))
        elif message.get("ev") == "instance" and len(self._listed) < self._expected:
            self._listed.append(KeeperInstance(message, fds))
            if len(self._listed) == self._expected and self._list_complete and not self._list_complete.done():
                self._list_complete.set_result(None)
        elif message.get("ev") == "instance":
            self._on_stray(KeeperInstance(message, fds))
        else:
            for fd in fds:  # the reply to a request that was cancelled; the next hello lists its instance
                os.close(fd)
            if "ev" in message:
                self._on_event(message)

    def _lost(self, why: str) -> None:
        self._disconnect()
        self._on_lost(why)

    def _disconnect(self) -> None:
        if self._channel is not None:
            loop = asyncio.get_running_loop()
            with contextlib.suppress(ValueError):  # already closed: nothing is registered then
                loop.remove_reader(self._channel.fileno())
                loop.remove_writer(self._channel.fileno())
            self._channel.close()
            self._channel = None
        self._fail_replies("the keeper is gone")

    def _fail_replies(self, why: str) -> None:
        for reply in self._replies.values():
            if not reply.done():
                reply.set_exception(EOFError(why))
        if self._list_complete is not None and not self._list_complete.done():
            self._list_complete.set_exception(EOFError(why))
            self._list_complete.exception()  # seen, also where nobody had come to wait for it
