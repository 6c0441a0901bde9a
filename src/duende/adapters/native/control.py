"""The line to the worker of a Python-class instance: questions and answers as JSON datagrams (SOCK_SEQPACKET)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable
from typing import Any

from duende.errors import OperationTimeout, PlatformIoError

__all__ = ["ControlLine"]

_MESSAGE_MAX_BYTES = 65536  # the worker's own limit (duende/worker/control.py)
_READS_PER_TURN = 16  # so that a worker that floods its line can't keep the event loop


class ControlLine:
    """Owns the socket. `on_event` gets what the worker says unasked; a closed line answers every question with an
    error.
    """

    def __init__(self, fd: int, on_event: Callable[[dict[str, Any]], None]) -> None:
        self._sock = socket.socket(fileno=fd)
        self._sock.setblocking(False)
        self._on_event = on_event
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._n = 0
        asyncio.get_running_loop().add_reader(self._sock.fileno(), self._readable)

    async def ask(self, op: str, timeout_s: float) -> dict[str, Any]:
        """Send a question, await its answer. OperationTimeout, or PlatformIoError when the worker is gone or does not
        read.
        """
        self._n += 1
        n = self._n
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[n] = answer
        try:
            self._sock.send(json.dumps({"op": op, "n": n}).encode())
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError:
            raise OperationTimeout(timeout_s) from None
        except OSError as error:
            raise PlatformIoError(f"cannot ask the worker for {op}: {error.strerror or error}") from error
        finally:
            self._waiting.pop(n, None)

    def drain(self) -> None:
        """Take what is there now: the last words of a worker that has just ended."""
        while self._sock.fileno() >= 0 and self._read_one():
            pass

    def close(self) -> None:
        """Close; questions under way fail."""
        if self._sock.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._sock.fileno())
            self._sock.close()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(PlatformIoError("the worker has ended"))

    def _readable(self) -> None:
        for _ in range(_READS_PER_TURN):
            if self._sock.fileno() < 0 or not self._read_one():
                return

    def _read_one(self) -> bool:
        try:
            data = self._sock.recv(_MESSAGE_MAX_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data = b""  # ECONNRESET: it ended with questions unread
        if not data:
            self.close()
            return False
        with contextlib.suppress(ValueError):  # not JSON: whatever wrote that was not our worker
            message = json.loads(data)
            if isinstance(message, dict):
                self._take(message)
        return True

    def _take(self, message: dict[str, Any]) -> None:
        answer = self._waiting.get(message.get("n", 0))
        if answer is not None and not answer.done():
            answer.set_result(message)
        elif "ev" in message:
            self._on_event(message)
