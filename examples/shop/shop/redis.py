"""As much of redis's protocol (RESP) as the example needs, so that it needs no client library."""

from __future__ import annotations

import socket
from typing import Any


class RedisError(Exception):
    """What redis answers with a minus sign."""


class Redis:
    """One connection, for one thread."""

    def __init__(self, port: int, *, timeout_s: float = 5.0) -> None:
        self._sock = socket.create_connection(("127.0.0.1", port), timeout=timeout_s)
        self._file = self._sock.makefile("rb")

    def __call__(self, *words: str | int) -> Any:
        """Send one command and return its answer; OSError when redis has gone."""
        parts = [str(word).encode() for word in words]
        lines = [b"*%d\r\n" % len(parts), *(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)]
        self._sock.sendall(b"".join(lines))
        return self._answer()

    def close(self) -> None:
        self._file.close()
        self._sock.close()

    def _answer(self) -> Any:
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("redis closed the connection")
        kind, rest = line[:1], line[1:-2]
        match kind:
            case b"+":
                return rest.decode()
            case b"-":
                raise RedisError(rest.decode())
            case b":":
                return int(rest)
            case b"$":
                size = int(rest)
                return None if size < 0 else self._file.read(size + 2)[:-2].decode()
            case b"*":
                return None if int(rest) < 0 else [self._answer() for _ in range(int(rest))]
            case _:
                raise RedisError(f"unknown answer {line!r}")
