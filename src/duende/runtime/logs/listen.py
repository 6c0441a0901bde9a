"""Waits for a line in the output of one instance: readiness that is told by the log.

It sees what the pump has just moved to the log, each byte once, so also what was written while no manager was there.
What an earlier manager has moved, and was killed before it could say so, is looked up in the log itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from duende.runtime.logs.store import LogStore

__all__ = ["LineListener", "was_said"]

# The rest of a longer line is not looked at: a pattern for a line of readiness does not need it, and a regular
# expression over megabytes would hold up the logs of all.
_LINE_MAX_BYTES = 16 * 1024
_PRIORITY = re.compile(rb"^<[0-7]>")  # sd-daemon(3); the log has it apart


class LineListener:
    """For both streams of one instance. `found` is called once, from the pump's thread."""

    def __init__(self, pattern: str, found: Callable[[], None]) -> None:
        self._pattern = re.compile(pattern)
        self._found = found
        self._rest: dict[str, bytes] = {}  # of each stream: the beginning of a line
        self.is_done = False

    def feed(self, stream: str, data: bytes) -> None:
        """The next bytes of a stream."""
        if self.is_done:
            return
        lines = (self._rest.get(stream, b"") + data).split(b"\n")
        self._rest[stream] = lines.pop()[:_LINE_MAX_BYTES]
        if any(self._matches(line) for line in lines):
            self._finish()

    def end(self, stream: str) -> None:
        """The stream has ended; what it left without a newline is a line, too."""
        if not self.is_done and self._matches(self._rest.get(stream, b"")):
            self._finish()

    def _matches(self, line: bytes) -> bool:
        text = _PRIORITY.sub(b"", line[:_LINE_MAX_BYTES].removesuffix(b"\r"), 1).decode(errors="replace")
        return bool(text) and self._pattern.search(text) is not None

    def _finish(self) -> None:
        self.is_done = True
        self._rest.clear()
        self._found()


def was_said(store: LogStore, name: str, pattern: str, since_s: float, instance: int) -> bool:
    """Whether the log has such a line of this instance. Blocks while it reads.

    Lines without a time (a raw log) can't be told from those of earlier instances, and do not count.
    """
    compiled = re.compile(pattern)
    return any(
        compiled.search(record.text[:_LINE_MAX_BYTES]) is not None
        for record in store.read(name, since_s=since_s)
        if record.time_s is not None and record.instance in (None, instance)
    )
