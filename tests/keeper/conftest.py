"""A keeper spoken to directly, without the manager's client."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import duende.keeper
from duende.keeper.wire import Channel
from duende.system.notify import make_socket

KEEPER = Path(duende.keeper.__file__).with_name("__main__.py")
PATIENCE_S = 20.0


class Peer:
    """One connection to the keeper."""

    def __init__(self, path: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(str(path))
        self.channel = Channel(self.sock)
        self.inbox: list[tuple[dict[str, Any], list[int]]] = []
        self.n = 0
        self.closed = False

    def fill(self, timeout_s: float = PATIENCE_S) -> bool:
        """Wait for more; False when nothing came in time or the keeper has closed."""
        poller = select.poll()
        poller.register(self.sock, select.POLLIN)
        if self.closed or not poller.poll(timeout_s * 1000):
            return False
        try:
            self.inbox += self.channel.receive()
        except (EOFError, ConnectionResetError):
            self.closed = True
            return False
        return True

    def wait(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first message that is wanted; its descriptors are closed."""
        while True:
            for index, (message, fds) in enumerate(self.inbox):
                if wanted(message):
                    del self.inbox[index]
                    for fd in fds:
                        os.close(fd)
                    return message
            assert self.fill(), f"the keeper said nothing more; it said {[message for message, _ in self.inbox]}"

    def tell(self, message: dict[str, Any]) -> int:
        self.n += 1
        self.channel.send({**message, "n": self.n})
        while self.channel.wants_write:
            select.select([], [self.sock], [], PATIENCE_S)
            self.channel.flush()
        return self.n

    def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        n = self.tell({"op": op, **fields})
        return self.wait(lambda message: message.get("n") == n)

    def spawn(self, key: str, *argv: str, **spec: Any) -> dict[str, Any]:
        spec = {"argv": list(argv), "env": {"PATH": os.environ["PATH"]}, **spec}
        return self.ask("spawn", id=key, spec=spec, note={})

    def event(self, name: str, key: str) -> dict[str, Any]:
        return self.wait(lambda message: message.get("ev") == name and message.get("id") == key)

    def is_cut(self) -> bool:
        """Whether the keeper ends this connection."""
        while self.fill():
            pass
        return self.closed

    def close(self) -> None:
        for _, fds in self.inbox:
            for fd in fds:
                os.close(fd)
        self.channel.close()


class KeeperProcess:
    """A real keeper in its own folder."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.path = folder / "keeper.sock"
        self.notify_path = folder / "notify.sock"
        self.log = folder / "keeper.log"
        self.peers: list[Peer] = []
        with contextlib.ExitStack() as opened:
            listener = opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            listener.bind(str(self.path))
            listener.listen(8)
            notify = opened.enter_context(make_socket(str(self.notify_path)))
            log = opened.enter_context(self.log.open("wb"))
            fds = (listener.fileno(), notify.fileno())
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(KEEPER), *map(str, fds)], pass_fds=fds, stdout=log, stderr=log,
                stdin=subprocess.DEVNULL, **options,
            )  # fmt: skip

    def connect(self) -> Peer:
        self.peers.append(Peer(self.path))
        return self.peers[-1]

    def hello(self) -> Peer:
        peer = self.connect()
        peer.ask("hello", v=1)
        return peer

    def children(self) -> list[int]:
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def is_well(self) -> bool:
        return self.process.poll() is None and not self.log.read_text()

    def close(self) -> None:
        for peer in self.peers:
            peer.close()
        children = self.children() if self.process.poll() is None else []
        self.process.kill()
        self.process.wait()
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def until(condition: Callable[[], Any], what: str) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, f"never came: {what}"
        time.sleep(0.005)


@pytest.fixture
def keeper() -> Iterator[KeeperProcess]:
    with tempfile.TemporaryDirectory(prefix=f"dt-{os.getpid()}-") as folder:
        made = KeeperProcess(Path(folder))
        yield made
        try:
            said = made.log.read_text()
        finally:
            made.close()
        assert said == "", "the keeper wrote something"
