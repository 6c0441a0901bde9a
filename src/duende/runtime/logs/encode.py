r"""Turns a block of captured bytes into the lines of a log file.

A block is a run of whole lines, or one piece of a line that goes on. Every line of the block becomes exactly one line
of the result, in order: the log file counts on it when it cuts a block at a rotation.

All lines of a block were read at the same moment, so they share one head, and the head is put in by `bytes.replace`
over the whole block: no loop over lines in Python. Two rules make that safe. Content never holds a newline, so newline
+ head + `<3>` can only be a line that begins with `<3>`; and a line that continues an earlier piece is set apart first,
because its beginning is not the beginning of a line.

The forms:
  text    `2026-11-21T02:36:00.123456Z stdout F content`, the log format of Kubernetes' CRI. The tag is F for a line (or
          its last piece), P for a piece that goes on; a priority is a second tag, `F:3`.
  logfmt  `time=… daemon=… instance=… stream=… [priority=N] [partial=true] msg="…"`. In msg `\\`, `\"`, `\t`, `\r` stand
          for those characters; other control characters and every byte that is not UTF-8 are `\xNN`. It reads back
          exactly.
  json    `{"time","daemon","instance","stream"[,"priority"][,"partial":true],"message"}`; a line that is not UTF-8 has
          `message_base64` instead.
  raw     as it came.
`<N>` at the start of a line is a priority, sd-daemon(3); it is taken off the content in all forms but raw.
"""

from __future__ import annotations

import base64
import json
import re
import time
from abc import ABC, abstractmethod

from duende.config.daemon import LogFormat

__all__ = ["Encoder", "Part", "format_time", "make_encoder"]

Part = bytes | memoryview

_PRIORITY = re.compile(rb"<([0-7])>")
_PRIORITIES = tuple((b"<%d>" % number, b"%d" % number) for number in range(8))
# All that JSON and logfmt escape besides `"` and `\`; the newline ends a line and is never content.
_CONTROLS = bytes(byte for byte in range(32) if byte != 10)
_RARE_CONTROLS = bytes(byte for byte in range(32) if byte not in (9, 10, 13)) + b"\x7f"
_RARE_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def format_time(wall_ns: int) -> bytes:
    """`2026-11-21T02:36:00.123456Z`."""
    second, rest_ns = divmod(wall_ns, 1_000_000_000)
    return b"%s.%06dZ" % (time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode(), rest_ns // 1000)


class Encoder(ABC):
    """One stream of one instance. Holds no state: what a stream is in the middle of is the pump's to know."""

    def __init__(self, daemon: str, instance: int, stream: str) -> None:
        self.daemon = daemon.encode()
        self.instance = b"%d" % instance
        self.stream = stream.encode()

    def lines(self, block: bytes, stamp: bytes, *, continues: bool) -> list[Part]:
        """Encode whole lines; `block` ends with a newline. With `continues` the first goes on from a piece.

        The parts belong behind each other, as for writev(2): to put them together here would take longer than all else.
        """
        if not continues:
            return self._many(block, stamp)
        end = block.index(b"\n") + 1
        first = self._one(block[: end - 1], stamp, priority=b"", partial=False)
        return [first, *self._many(block[end:], stamp)] if end < len(block) else [first]

    def piece(self, block: bytes, stamp: bytes, *, continues: bool) -> bytes:
        """Encode a part of a line whose end is still to come."""
        match = None if continues else _PRIORITY.match(block)
        if match is None:
            return self._one(block, stamp, priority=b"", partial=True)
        return self._one(block[3:], stamp, priority=match[1], partial=True)

    @abstractmethod
    def _many(self, block: bytes, stamp: bytes) -> list[Part]: ...

    @abstractmethod
    def _one(self, content: bytes, stamp: bytes, *, priority: bytes, partial: bool) -> bytes: ...

    def _each(self, block: bytes, stamp: bytes) -> list[Part]:
        """The slow way, line by line, for blocks that the fast way can't do."""
        out: list[Part] = []
        for line in block[:-1].split(b"\n"):
            match = _PRIORITY.match(line)
            if match is None:
                out.append(self._one(line, stamp, priority=b"", partial=False))
            else:
                out.append(self._one(line[3:], stamp, priority=match[1], partial=False))
        return [b"".join(out)]


def _put_heads(block: bytes, head: bytes, foot: bytes, prioritised: tuple[bytes, bytes]) -> list[Part]:
    """Begin every line of `block` with `head` and end it with `foot`; `<N>` lines begin with `prioritised` around N."""
    between = b"\n" + head
    out = block.replace(b"\n", foot + between)  # which puts a head behind the last line as well
    if b"<" in block and (block.startswith(b"<") or b"\n<" in block):
        out = between + out
        for prefix, number in _PRIORITIES:
            out = out.replace(between + prefix, b"\n" + prioritised[0] + number + prioritised[1])
        return [memoryview(out)[1 : len(out) - len(head)]]
    return [head, memoryview(out)[: len(out) - len(head)]]


class _Raw(Encoder):
    def lines(self, block: bytes, stamp: bytes, *, continues: bool) -> list[Part]:
        return [block]

    def piece(self, block: bytes, stamp: bytes, *, continues: bool) -> bytes:
        return block

    def _many(self, block: bytes, stamp: bytes) -> list[Part]:
        return [block]

    def _one(self, content: bytes, stamp: bytes, *, priority: bytes, partial: bool) -> bytes:
        return content


class _Text(Encoder):
    def _many(self, block: bytes, stamp: bytes) -> list[Part]:
        start = b"%s %s F" % (stamp, self.stream)
        return _put_heads(block, start + b" ", b"", (start + b":", b" "))

    def _one(self, content: bytes, stamp: bytes, *, priority: bytes, partial: bool) -> bytes:
        tag = (b"P" if partial else b"F") + (b":" + priority if priority else b"")
        return b"%s %s %s %s\n" % (stamp, self.stream, tag, content)


class _Logfmt(Encoder):
    def _start(self, stamp: bytes) -> bytes:
        return b"time=%s daemon=%s instance=%s stream=%s" % (stamp, self.daemon, self.instance, self.stream)

    def _many(self, block: bytes, stamp: bytes) -> list[Part]:
        start = self._start(stamp)
        escaped = _escape_logfmt(block)
        return _put_heads(escaped, start + b' msg="', b'"', (start + b" priority=", b' msg="'))

    def _one(self, content: bytes, stamp: bytes, *, priority: bytes, partial: bool) -> bytes:
        extra = (b" priority=" + priority if priority else b"") + (b" partial=true" if partial else b"")
        return b'%s%s msg="%s"\n' % (self._start(stamp), extra, _escape_logfmt(content))


def _escape_logfmt(block: bytes) -> bytes:
    if b"\\" in block:
        block = block.replace(b"\\", b"\\\\")
    if not block.isascii():
        block = block.decode("utf-8", "backslashreplace").encode()
    if b'"' in block:
        block = block.replace(b'"', b'\\"')
    if b"\t" in block:
        block = block.replace(b"\t", b"\\t")
    if b"\r" in block:
        block = block.replace(b"\r", b"\\r")
    if len(block.translate(None, _RARE_CONTROLS)) != len(block):
        block = _RARE_CONTROL.sub(lambda match: b"\\x%02x" % match[0][0], block)
    return block


class _Json(Encoder):
    def _start(self, stamp: bytes) -> bytes:
        return b'{"time":"%s","daemon":"%s","instance":%s,"stream":"%s"' % (
            stamp,
            self.daemon,
            self.instance,
            self.stream,
        )

    def _many(self, block: bytes, stamp: bytes) -> list[Part]:
        if not block.isascii():
            try:
                block.decode()
            except UnicodeDecodeError:
                return self._each(block, stamp)
        start = self._start(stamp)
        return _put_heads(
            _escape_json(block), start + b',"message":"', b'"}', (start + b',"priority":', b',"message":"')
        )

    def _one(self, content: bytes, stamp: bytes, *, priority: bytes, partial: bool) -> bytes:
        extra = (b',"priority":' + priority if priority else b"") + (b',"partial":true' if partial else b"")
        try:
            content.decode()
        except UnicodeDecodeError:
            return b'%s%s,"message_base64":"%s"}\n' % (self._start(stamp), extra, base64.b64encode(content))
        return b'%s%s,"message":"%s"}\n' % (self._start(stamp), extra, _escape_json(content))


def _escape_json(block: bytes) -> bytes:
    """Escape what RFC 8259 section 7 demands in UTF-8 text; newlines stay, as the ends of lines."""
    if len(block.translate(None, _CONTROLS)) != len(block):
        # The encoder in C over the list of lines; its separator can't occur in its strings, which escape newlines.
        return (
            json.dumps(block.decode().split("\n"), ensure_ascii=False, separators=("\n", ":"))[2:-2]
            .replace('"\n"', "\n")
            .encode()
        )
    if b"\\" in block:
        block = block.replace(b"\\", b"\\\\")
    if b'"' in block:
        block = block.replace(b'"', b'\\"')
    return block


_ENCODERS: dict[LogFormat, type[Encoder]] = {
    LogFormat.TEXT: _Text,
    LogFormat.RAW: _Raw,
    LogFormat.LOGFMT: _Logfmt,
    LogFormat.JSON: _Json,
}


def make_encoder(log_format: LogFormat, daemon: str, instance: int, stream: str) -> Encoder:
    """The encoder of one stream of one instance."""
    return _ENCODERS[log_format](daemon, instance, stream)
