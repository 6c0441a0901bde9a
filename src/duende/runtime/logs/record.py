"""One line of a log, and how each written form is read back.

A line of a file says itself which form it has (`{` JSON, `time=` logfmt, a digit CRI text), so a file whose format was
changed between two starts stays readable. A line that is none of them is given back as it is, without a time.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

__all__ = ["JOIN_MAX_BYTES", "Joiner", "LogRecord", "parse_line", "parse_time"]

# A line that was written in pieces is put together again up to here; a longer one is handed on in parts. Above the
# 10 MB that are promised, and small enough to hold once per follower.
JOIN_MAX_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class LogRecord:
    """A line, or with `partial` a piece of one that goes on. `time_s` is when it was read; None in a raw log."""

    daemon: str
    stream: str  # stdout or stderr
    message: bytes  # without its newline and without its `<N>` prefix
    time_s: float | None = None
    instance: int | None = None  # text and raw do not tell
    priority: int | None = None  # 0-7, sd-daemon(3); None where the line had no prefix
    partial: bool = False

    @property
    def text(self) -> str:
        """The message for people: what is not UTF-8 is shown as U+FFFD."""
        return self.message.decode("utf-8", "replace")

    def to_json(self) -> dict[str, Any]:
        """The wire form; `message_base64` takes the place of `message` where the bytes are not UTF-8."""
        data: dict[str, Any] = {
            "time_s": self.time_s,
            "daemon": self.daemon,
            "instance": self.instance,
            "stream": self.stream,
            "priority": self.priority,
            "partial": self.partial,
        }
        try:
            data["message"] = self.message.decode()
        except UnicodeDecodeError:
            data["message_base64"] = base64.b64encode(self.message).decode()
        return data


class Joiner:
    """Puts the pieces of a line together again; one for each file, as pieces of both streams may alternate."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, int | None], list[LogRecord]] = {}
        self._held_bytes: dict[tuple[str, int | None], int] = {}

    @property
    def is_empty(self) -> bool:
        """Whether no piece waits for its end."""
        return not self._held

    def add(self, record: LogRecord) -> LogRecord | None:
        """The whole line, when `record` ends one. A line above the bound comes in parts, all but the last `partial`."""
        key = (record.stream, record.instance)
        held = self._held.get(key)
        if not record.partial and held is None:
            return record
        if held is None:
            held = self._held[key] = []
        held.append(record)
        self._held_bytes[key] = self._held_bytes.get(key, 0) + len(record.message)
        if record.partial and self._held_bytes[key] < JOIN_MAX_BYTES:
            return None
        return self._take(key, partial=record.partial)

    def _take(self, key: tuple[str, int | None], *, partial: bool) -> LogRecord:
        pieces = self._held.pop(key)
        del self._held_bytes[key]
        return replace(pieces[0], message=b"".join(piece.message for piece in pieces), partial=partial)

    def rest(self) -> list[LogRecord]:
        """What is held without an end, as partial records."""
        return [self._take(key, partial=True) for key in list(self._held)]


def parse_time(text: str) -> float:
    """Seconds since the epoch of `2026-11-21T02:36:00.123456Z`; ValueError otherwise."""
    time = datetime.fromisoformat(text)
    if time.tzinfo is not UTC:
        raise ValueError(f"{text!r} is not a time in UTC")
    return time.timestamp()


def parse_line(daemon: str, line: bytes) -> LogRecord:
    """Read one line of a file (without its newline), whatever its form."""
    try:
        if line.startswith(b"{"):
            return _parse_json(daemon, line)
        if line.startswith(b"time="):
            return _parse_logfmt(daemon, line)
        if line[:1].isdigit():
            return _parse_text(daemon, line)
    except (ValueError, KeyError, TypeError, binascii.Error):
        # Not ours, or damaged by others: shown as it stands rather than hidden.
        return LogRecord(daemon, "stdout", line)
    return LogRecord(daemon, "stdout", line)


def _parse_text(daemon: str, line: bytes) -> LogRecord:
    stamp, stream, tag, message = line.split(b" ", 3)
    kind, _, priority = tag.partition(b":")
    if kind not in (b"P", b"F") or stream not in (b"stdout", b"stderr"):
        raise ValueError("no CRI line")
    return LogRecord(
        daemon,
        stream.decode(),
        message,
        parse_time(stamp.decode()),
        priority=int(priority) if priority else None,
        partial=kind == b"P",
    )


def _parse_json(daemon: str, line: bytes) -> LogRecord:
    data = json.loads(line)
    encoded = data.get("message_base64")
    message = base64.b64decode(encoded, validate=True) if encoded is not None else data["message"].encode()
    return LogRecord(
        daemon,
        data["stream"],
        message,
        parse_time(data["time"]),
        instance=data["instance"],
        priority=data.get("priority"),
        partial=data.get("partial", False),
    )


_LOGFMT = re.compile(
    rb'time=(\S+) daemon=\S+ instance=(\d+) stream=(stdout|stderr)(?: priority=([0-7]))?( partial=true)? msg="(.*)"',
    re.S,
)
_ESCAPE = re.compile(rb'\\(?:x([0-9a-f]{2})|(["\\rt]))')
_SHORT = {b'"': b'"', b"\\": b"\\", b"r": b"\r", b"t": b"\t"}


def _unescape(match: re.Match[bytes]) -> bytes:
    return bytes.fromhex(match[1].decode()) if match[1] else _SHORT[match[2]]


def _parse_logfmt(daemon: str, line: bytes) -> LogRecord:
    match = _LOGFMT.fullmatch(line)
    if match is None:
        raise ValueError("no logfmt line")
    return LogRecord(
        daemon,
        match[3].decode(),
        _ESCAPE.sub(_unescape, match[6]),
        parse_time(match[1].decode()),
        instance=int(match[2]),
        priority=int(match[4]) if match[4] else None,
        partial=bool(match[5]),
    )
