"""A small HTTP/1.1 client for the manager's Unix socket: what the CLI needs, and quick to import.

A whole `duende status` must take little more than the start of Python; http.client alone would double that. It speaks
to our own server only, so it knows what that sends: a length or chunks, no compression, no redirects.
"""

from __future__ import annotations

import json
import os
import socket
import time

from duende.api.presence import RETURN_MAX_S, Presence
from duende.errors import DuendeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["LOOK_AGAIN_S", "ApiError", "Client", "ManagerGone", "ManagerSilent", "NoManager"]

LOOK_AGAIN_S = 0.02  # while a manager is coming: a socket that begins to listen tells nobody

_HEADER_MAX_BYTES = 64 * 1024
_LINE_MAX_BYTES = 64 * 1024 * 1024  # a log line may have 10 MB, its JSON some times that
_READ_BYTES = 256 * 1024


class NoManager(DuendeError):
    """Nothing listens at the socket. `is_forbidden` says that something may, but not for us."""

    def __init__(self, socket_path: str, reason: str, *, is_forbidden: bool = False) -> None:
        super().__init__(f"cannot connect to {socket_path}: {reason}")
        self.socket_path = socket_path
        self.is_forbidden = is_forbidden


class ManagerSilent(DuendeError):
    """A manager listens but does not answer as it should, or went away before the end of its answer."""


class ManagerGone(ManagerSilent):
    """It went away before the end of its answer."""


class ApiError(DuendeError):
    """The manager answered with a problem (RFC 9457)."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        super().__init__(str(problem.get("detail") or f"the manager answered {status}"))
        self.status = status
        self.kind = str(problem.get("kind", ""))
        self.problem = problem


class Client:
    """Speaks to one manager; one connection per request. Use one per thread.

    With `presence`, a request waits a moment for a manager that is coming, as one does after the death of another.
    """

    def __init__(self, socket_path: str, config: str | None = None, presence: Presence | None = None) -> None:
        self.socket_path = socket_path
        self._presence = presence
        self._config = config  # the stack's file, where it was the file that named the stack
        self.manager_pid = 0  # who listens, known after the first request

    def get(self, path: str, *, timeout_s: float | None = 10.0) -> Any:
        """GET a JSON answer. Raises NoManager, ManagerSilent, ApiError."""
        return self._ask("GET", path, None, timeout_s)

    def post(
        self, path: str, body: dict[str, Any], *, timeout_s: float | None = 10.0, is_question: bool = False
    ) -> Any:
        """POST a JSON body and take a JSON answer. `is_question`: it changes nothing, and may be asked twice."""
        return (self._ask if is_question else self._request)("POST", path, body, timeout_s)

    def _ask(self, method: str, path: str, body: dict[str, Any] | None, timeout_s: float | None) -> Any:
        """Where a manager died with the question, its successor is asked."""
        try:
            return self._request(method, path, body, timeout_s)
        except ManagerGone:
            if self._presence is None:
                raise
        return self._request(method, path, body, timeout_s)

    def send_only(self, path: str, body: dict[str, Any]) -> None:
        """POST and leave: the manager carries it through, nobody hears how it went."""
        with self._connected(10.0) as sock:
            self._send(sock, _request_bytes("POST", path, body, self._config))

    def stream(self, path: str) -> Iterator[bytes]:
        """GET a stream, line by line without line ends; empty lines too. Raises ManagerSilent if it is cut off."""
        with self._connected(10.0) as sock:
            self._send(sock, _request_bytes("GET", path, None, self._config))
            answer = _Answer(sock)
            answer.raise_for_problem()
            sock.settimeout(None)  # there may be nothing to say for days
            rest = b""
            for piece in answer.pieces():
                *lines, rest = (rest + piece).split(b"\n")
                if len(rest) > _LINE_MAX_BYTES:
                    raise ManagerSilent(f"a line of the answer is longer than {_LINE_MAX_BYTES} bytes")
                yield from lines
            if rest:
                yield rest

    def _request(self, method: str, path: str, body: dict[str, Any] | None, timeout_s: float | None) -> Any:
        with self._connected(timeout_s) as sock:
            self._send(sock, _request_bytes(method, path, body, self._config))
            answer = _Answer(sock)
            answer.raise_for_problem()
            return answer.json()

    def _connected(self, timeout_s: float | None) -> socket.socket:
        """A connection, also to a manager that is only coming."""
        began_s = 0.0
        while True:
            try:
                return self._connected_now(timeout_s)
            except NoManager as error:
                if error.is_forbidden or self._presence is None:
                    raise
                now_s = time.monotonic()
                began_s = began_s or now_s
                if now_s - began_s >= RETURN_MAX_S or not self._presence.is_expected():
                    raise
            time.sleep(LOOK_AGAIN_S)

    def _connected_now(self, timeout_s: float | None) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # Without a timeout yet: with one, a full backlog is an error at once (EAGAIN, unix(7)) instead of a wait.
            sock.connect(self.socket_path)
            if hasattr(socket, "SO_PEERCRED"):
                credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)  # struct ucred: pid first
                self.manager_pid = memoryview(credentials).cast("i")[0]
        except OSError as error:
            sock.close()
            forbidden = isinstance(error, PermissionError)
            raise NoManager(self.socket_path, error.strerror or str(error), is_forbidden=forbidden) from None
        except BaseException:
            sock.close()
            raise
        sock.settimeout(timeout_s)
        return sock

    def _send(self, sock: socket.socket, data: bytes) -> None:
        try:
            sock.sendall(data)
        except TimeoutError:
            raise ManagerSilent("the manager takes no requests; is it stopped or overloaded?") from None
        except OSError:
            pass  # it refused early, and its answer says why: that is what the caller reads next


def _request_bytes(method: str, path: str, body: dict[str, Any] | None, config: str | None) -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    if config is not None:  # in hexadecimal, since a header can't carry every path
        head += f"Duende-Config: {os.fsencode(config).hex()}\r\n"
    if body is None:
        return f"{head}\r\n".encode()
    data = json.dumps(body).encode()
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data


class _Answer:
    """One answer, read as it comes."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = b""
        while b"\r\n\r\n" not in self._buffer:
            if len(self._buffer) > _HEADER_MAX_BYTES:
                raise ManagerSilent("the answer is not HTTP: its header has no end")
            self._more()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        parts = first.split(" ", 2)
        if not parts[0].startswith("HTTP/1.") or len(parts) < 2 or not parts[1].isdigit():
            raise ManagerSilent(f"the answer is not HTTP: {first[:80]!r}")
        self.status = int(parts[1])
        self._headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            self._headers[name.strip().lower()] = value.strip()

    def raise_for_problem(self) -> None:
        """Raise ApiError unless the answer is a success."""
        if self.status < 300:
            return
        try:
            problem = self.json()
        except ManagerSilent:
            problem = {}
        raise ApiError(self.status, problem if isinstance(problem, dict) else {})

    def json(self) -> Any:
        """The whole body, decoded."""
        try:
            return json.loads(b"".join(self.pieces()))
        except ValueError as error:
            raise ManagerSilent(f"the answer is not JSON: {error}") from None

    def pieces(self) -> Iterator[bytes]:
        """The body in pieces as they arrive."""
        if self._headers.get("transfer-encoding", "").lower() == "chunked":
            yield from self._chunks()
            return
        left = int(self._headers.get("content-length", "0"))
        while left:
            if not self._buffer:
                self._more()
            piece, self._buffer = self._buffer[:left], self._buffer[left:]
            left -= len(piece)
            yield piece

    def _chunks(self) -> Iterator[bytes]:
        while True:
            while b"\r\n" not in self._buffer:
                self._more()
            size_text, _, self._buffer = self._buffer.partition(b"\r\n")
            left = int(size_text.split(b";")[0], 16)
            if left == 0:
                return
            left += 2  # the line end that closes the chunk
            while left:
                if not self._buffer:
                    self._more()
                piece, self._buffer = self._buffer[:left], self._buffer[left:]
                if left > 2:
                    yield piece[: left - 2]
                left -= len(piece)

    def _more(self) -> None:
        try:
            data = self._sock.recv(_READ_BYTES)
        except TimeoutError:
            raise ManagerSilent(f"the manager does not answer within {self._sock.gettimeout():g} s") from None
        except OSError as error:
            raise ManagerGone(f"the manager went away before the end of its answer: {error.strerror}") from None
        if not data:
            raise ManagerGone("the manager went away before the end of its answer")
        self._buffer += data
