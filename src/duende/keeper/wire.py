"""Frames between keeper, manager and zygote: JSON with file descriptors, over a Unix stream socket.

A frame is a 5-byte header (big-endian payload length, number of descriptors) and a JSON object; the descriptors travel
as SCM_RIGHTS beside the frame's first bytes (unix(7)). The stream keeps the order of both, so descriptors are dealt
out to frames by count. Nothing here blocks: what the peer does not take yet waits in a queue.
"""

from __future__ import annotations

import array
import collections
import json
import os
import socket
import struct
from collections.abc import Sequence
from typing import Any

__all__ = ["PROTOCOL_VERSION", "Channel", "WireError", "check_request"]

PROTOCOL_VERSION = 2

_HEADER = struct.Struct(">IB")
# Room for a 10 MiB environment whose every character needs a JSON escape; more is refused as garbage.
_FRAME_MAX_BYTES = 64 * 1024 * 1024
_READ_BYTES = 256 * 1024
_FDS_PER_RECEIVE = 253  # SCM_MAX_FD, linux/include/net/scm.h


class WireError(Exception):
    """The peer broke the protocol, or descriptors were lost because this process has no free ones."""


# What the handler of each request of a manager can't do without.
_NEEDS: dict[str, dict[str, type]] = {
    "spawn": {"id": str, "spec": dict}, "release": {"id": str}, "zygote": {"argv": list, "env": dict},
}  # fmt: skip


def check_request(message: dict[str, Any]) -> None:
    """WireError unless a request has what its handler needs; what is inside `spec` is the new child's affair."""
    op = str(message.get("op"))
    for key, kind in _NEEDS.get(op, {}).items():
        if not isinstance(message.get(key), kind):
            raise WireError(f"the request {op} has no {key}")
    if op == "spawn":
        spec = message["spec"]
        if not spec.get("argv") or not isinstance(spec.get("rlimits") or {}, dict):
            raise WireError("the request spawn has no argv, or rlimits that are no table")


class Channel:
    """One end of a connection. Descriptors given to `send` are closed here once they are on their way."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self._out: collections.deque[tuple[memoryview, list[int]]] = collections.deque()
        self._in = bytearray()
        # One group for each frame that has descriptors; empty where they were lost. recvmsg(2) never reads beyond the
        # bytes that came with one (unix_stream_read_generic, net/unix/af_unix.c), so groups and frames have one order.
        self._in_fds: collections.deque[list[int]] = collections.deque()

    def fileno(self) -> int:
        """For select and friends."""
        return self.sock.fileno()

    @property
    def wants_write(self) -> bool:
        """Whether `flush` should be called when the socket is writable."""
        return bool(self._out)

    def send(self, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
        """Queue a frame and try to send it. OSError when the peer is gone."""
        payload = json.dumps(message, separators=(",", ":")).encode()
        if len(payload) > _FRAME_MAX_BYTES:
            raise WireError(f"a frame of {len(payload)} bytes is over the limit of {_FRAME_MAX_BYTES}")
        self._out.append((memoryview(_HEADER.pack(len(payload), len(fds)) + payload), list(fds)))
        self.flush()

    def flush(self) -> None:
        """Send what the socket takes now."""
        while self._out:
            data, fds = self._out[0]
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
            try:
                sent = self.sock.sendmsg([data], rights)
            except BlockingIOError:
                return
            for fd in fds:
                os.close(fd)
            if sent == len(data):
                self._out.popleft()
            else:
                self._out[0] = (data[sent:], [])

    def receive(self) -> list[tuple[dict[str, Any], list[int]]]:
        """All complete frames that are there now, with their descriptors: none where this process had no free ones.

        EOFError when the peer has closed; WireError when it talks rubbish.
        """
        try:
            data, ancillary, flags, _ = self.sock.recvmsg(_READ_BYTES, socket.CMSG_SPACE(4 * _FDS_PER_RECEIVE))
        except BlockingIOError:
            return []
        group = _descriptors(ancillary)
        if (
            flags & socket.MSG_CTRUNC
        ):  # no descriptor is free here (EMFILE): the message counts, its descriptors are gone
            for fd in group:
                os.close(fd)
            self._in_fds.append([])
        elif group:
            self._in_fds.append(group)
        if not data:
            raise EOFError("the peer closed the connection")
        self._in += data
        return self._complete_frames()

    def _complete_frames(self) -> list[tuple[dict[str, Any], list[int]]]:
        frames: list[tuple[dict[str, Any], list[int]]] = []
        start = 0
        while len(self._in) - start >= _HEADER.size:
            length, count = _HEADER.unpack_from(self._in, start)
            if length > _FRAME_MAX_BYTES:
                raise WireError(f"a frame of {length} bytes is announced; the limit is {_FRAME_MAX_BYTES}")
            end = start + _HEADER.size + length
            if len(self._in) < end:
                break
            group = self._in_fds[0] if count and self._in_fds else []
            if (count and not self._in_fds) or (group and len(group) != count):
                raise WireError(f"a frame announces {count} descriptors, {len(group)} came")
            try:
                message = json.loads(bytes(self._in[start + _HEADER.size : end]))
            except (ValueError, RecursionError) as error:
                raise WireError(f"a frame is not JSON: {error}") from error
            if not isinstance(message, dict):
                raise WireError("a frame is not a JSON object")
            frames.append((message, self._in_fds.popleft() if count else []))
            start = end
        del self._in[:start]
        return frames

    def close(self) -> None:
        """Close the socket and every descriptor that nobody took."""
        self.sock.close()
        for _, fds in self._out:
            for fd in fds:
                os.close(fd)
        self._out.clear()
        for group in self._in_fds:
            for fd in group:
                os.close(fd)
        self._in_fds.clear()


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    found = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found.frombytes(content[: len(content) - len(content) % found.itemsize])
    for fd in found:
        os.set_inheritable(fd, False)
    return list(found)
