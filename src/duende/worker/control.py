"""The worker's end of the control socket: JSON in packets, between this instance and its manager.

Nothing here ever stops the daemon. A manager that has vanished is not our end; a socket that is full loses an answer
to a health check (the manager counts it as none), but not `ready`, `failed` and `stopping`, which wait until it takes
them.
"""

from __future__ import annotations

import asyncio
import json
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any

__all__ = ["CONTROL_VARIABLE", "PACKET_MAX_BYTES", "Control"]

CONTROL_VARIABLE = "DUENDE_CONTROL_FD"
PACKET_MAX_BYTES = 65536  # both sides' agreement; far below the socket buffer's 208 KiB (net.core.wmem_default)

_NEWS_MAX = 8  # one life has at most ready, stopping and failed


class Control:
    """`socket` is None where there is no manager: then nothing is asked and nothing is told."""

    def __init__(self, sock: socket.socket | None) -> None:
        self._socket = sock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_request: Callable[[dict[str, Any]], None] = _ignore
        self._news: deque[bytes] = deque(maxlen=_NEWS_MAX)
        self._latest: bytes | None = None  # of what only the last word counts
        if sock is not None:
            sock.setblocking(False)

    def listen(self, loop: asyncio.AbstractEventLoop, on_request: Callable[[dict[str, Any]], None]) -> None:
        """From now on call `on_request` with each message of the manager."""
        self._loop, self._on_request = loop, on_request
        if self._socket is not None:
            loop.add_reader(self._socket.fileno(), self._readable)

    def tell(self, message: dict[str, Any]) -> None:
        """Send news that must arrive; waits in a queue while the socket is full."""
        if self._socket is not None:
            self._news.append(_packet(message))
            self._flush()

    def tell_latest(self, message: dict[str, Any]) -> None:
        """Send how things stand now; while the socket is full, a later word takes the place of an earlier one."""
        if self._socket is not None:
            packet = _packet(message)
            if len(packet) <= PACKET_MAX_BYTES:
                self._latest = packet
                self._flush()

    def answer(self, message: dict[str, Any]) -> None:
        """Send an answer, or drop it if the socket is full. One too large is replaced by an error."""
        if self._socket is None:
            return
        packet = _packet(message)
        if len(packet) > PACKET_MAX_BYTES:
            reason = f"the answer of {len(packet)} bytes is over the limit of {PACKET_MAX_BYTES}"
            packet = _packet({"n": message.get("n"), "error": reason})
        if not self._news:  # news first, in order
            self._send(packet)

    def drain(self, timeout_s: float) -> None:
        """Wait until all news is sent, at most `timeout_s`; for the moment before the process ends."""
        deadline_s = time.monotonic() + timeout_s
        while self._socket is not None and (self._news or self._latest):
            if (left_s := deadline_s - time.monotonic()) <= 0.0:
                return
            poll = select.poll()
            poll.register(self._socket, select.POLLOUT)
            poll.poll(left_s * 1000.0)
            self._flush()

    def close(self) -> None:
        """Stop listening and close the socket."""
        if self._socket is not None:
            if self._loop is not None and not self._loop.is_closed():
                self._loop.remove_reader(self._socket.fileno())
                self._loop.remove_writer(self._socket.fileno())
            self._socket.close()
            self._socket = None
            self._news.clear()
            self._latest = None

    def _readable(self) -> None:
        assert self._socket is not None
        try:
            # One byte more than allowed shows that a packet was cut.
            data = self._socket.recv(PACKET_MAX_BYTES + 1)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""  # ECONNRESET: as good as closed
        if not data:
            self.close()
            return
        try:
            message = json.loads(data)
            if not isinstance(message, dict):
                raise ValueError("not an object")
        except ValueError as error:
            print(f"duende: a control message was ignored: {error}: {data[:80]!r}", file=sys.stderr)
            return
        self._on_request(message)

    def _flush(self) -> None:
        while self._news and self._send(self._news[0]):
            self._news.popleft()
        if not self._news and self._latest is not None and self._send(self._latest):
            self._latest = None
        if self._loop is None or self._socket is None or self._loop.is_closed():
            return
        if self._news or self._latest:
            self._loop.add_writer(self._socket.fileno(), self._flush)
        else:
            self._loop.remove_writer(self._socket.fileno())

    def _send(self, packet: bytes) -> bool:
        """Whether it is gone, one way or the other; False when the socket is full."""
        if self._socket is None:
            return True
        try:
            self._socket.send(packet, socket.MSG_NOSIGNAL)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            self.close()  # EPIPE, ECONNRESET: nobody is there any more
        return True


def _packet(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()


def _ignore(_message: dict[str, Any]) -> None:
    """Requests before `listen` was called: there is nothing to ask yet."""
