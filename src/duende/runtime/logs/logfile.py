"""The active file of a log: opened, appended to, rotated. Used by the pump's thread only.

A file always ends with a whole record as far as it depends on us: a write that was cut short (disk full) is cut off
again, and the bytes wait in their pipe. One that a kill cut short is cut off when the file is opened, see `cursor.py`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from duende.config.daemon import LogConfig, LogFormat
from duende.runtime.logs.archive import Archivist, Job
from duende.runtime.logs.cursor import Cursor, CursorFile, Intent
from duende.runtime.logs.encode import Part
from duende.runtime.logs.naming import active_path, list_archives, next_stamp, stamp_time_s
from duende.runtime.logs.record import parse_line

__all__ = ["LogFile"]

_NEWLINE = 10

# How soon a file that another program renamed or removed (logrotate) is noticed. Nobody tells us short of an inotify
# watch for each file; a stat per second of writing is not measurable.
_CHECK_INTERVAL_S = 1.0


class LogFile:
    """One active file; `streams` of several instances may write to it."""

    def __init__(
        self,
        daemon: str,
        directory: Path,
        stem: str,
        config: LogConfig,
        cursors: CursorFile,
        archivist: Archivist,
        wall_ns: Callable[[], int],
    ) -> None:
        self.daemon = daemon
        self.path = active_path(directory, stem)
        self.config = config
        self._directory = directory
        self._stem = stem
        self._cursors = cursors
        self._archivist = archivist
        self._wall_ns = wall_ns
        self._fd = -1
        self._inode = 0
        self._birth_s = 0.0
        self._last_stamp = ""
        self._next_check_s = 0.0
        self._cut_to: int | None = None  # where a write that failed began, if it could not be cut off at once
        self._ends_line = True
        self.size_bytes = 0

    def prepare(self, now_s: float) -> None:
        """Be open, and be the file of that name. OSError when that can't be."""
        if self._fd >= 0 and now_s >= self._next_check_s:
            self._next_check_s = now_s + _CHECK_INTERVAL_S
            self._drop_if_replaced()
        if self._fd < 0:
            self._open()
            self._next_check_s = now_s + _CHECK_INTERVAL_S

    def rotate_if_due(self, *, mid_line: bool) -> None:
        """Rotate before the next line if it is time (but no raw file within a line)."""
        self.size_bytes = os.lseek(self._fd, 0, os.SEEK_END)  # not remembered: others may have truncated the file
        if self.size_bytes and self._is_due() and not (mid_line and self.config.format is LogFormat.RAW):
            self._rotate()

    def room_bytes(self) -> int | None:
        """How much fits below the size limit; None without a limit."""
        return max(self.config.max_size - self.size_bytes, 0) if self.config.max_size else None

    def lead(self, *, is_new_stream: bool) -> bytes:
        """The newline that is missing, where the file ends in the middle of a line that nobody continues."""
        if self._ends_line or (self.config.format is LogFormat.RAW and not is_new_stream):
            return b""
        return b"\n"

    def append(self, out: list[Part], cursor: Cursor, count: int, waiting: int, mark: int, *, mid_line: bool) -> None:
        """Write `out`, all or nothing. OSError: nothing was written, or what was is cut off when the file is opened."""
        start, length = self.size_bytes, sum(map(len, out))
        cursor.intend(Intent(self._inode, start, length, count, waiting, mark, mid_line))
        try:
            done = os.writev(self._fd, out)
            while done < length:  # the disk got full within; the next write says so
                done += os.write(self._fd, b"".join(out)[done:])
        except OSError:
            self._cut_to = start
            try:
                os.ftruncate(self._fd, start)
                self._cut_to = None
                cursor.settle()
            finally:
                self.close()
            raise
        self.size_bytes = start + length
        self._ends_line = out[-1][-1] == _NEWLINE

    def close(self) -> None:
        """Close; the next `prepare` opens again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> None:
        self._directory.mkdir(mode=0o750, parents=True, exist_ok=True)
        # O_NONBLOCK: a FIFO that someone put here must not hang us (it is refused below).
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        fd = os.open(self.path, flags, 0o640)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(f"{self.path} is not a regular file")
            size_bytes = status.st_size
            cut_to = self._cursors.resolve(status.st_ino, size_bytes)
            if self._cut_to is not None and status.st_ino == self._inode:
                cut_to = self._cut_to
            if cut_to is not None and cut_to < size_bytes:
                os.ftruncate(fd, cut_to)
                size_bytes = cut_to
            self._cut_to = None
            self._ends_line = size_bytes == 0 or os.pread(fd, 1, size_bytes - 1) == b"\n"
            archives = list_archives(self._directory, self._stem)
            self._last_stamp = max(self._last_stamp, archives[-1].stamp if archives else "")
            self._birth_s = self._guess_birth(fd, size_bytes, status.st_mtime)
        except OSError:
            os.close(fd)
            raise
        self._fd, self._inode = fd, status.st_ino
        if archives:
            self._submit()

    def _guess_birth(self, fd: int, size_bytes: int, modified_s: float) -> float:
        """When the file was begun: its first record says so; in a raw log the last rotation, or else the last write."""
        if size_bytes == 0:
            return self._wall_ns() / 1e9
        first = parse_line(self.daemon, os.pread(fd, 4096, 0).partition(b"\n")[0]) if "+" not in self._stem else None
        if first is not None and first.time_s is not None:
            return first.time_s
        return stamp_time_s(self._last_stamp) if self._last_stamp else modified_s

    def _drop_if_replaced(self) -> None:
        try:
            if os.stat(self.path).st_ino == self._inode:
                return
        except FileNotFoundError:
            pass  # removed, which is one way of being replaced
        self.close()

    def _is_due(self) -> bool:
        if 0 < self.config.max_size <= self.size_bytes:
            return True
        return 0 < self.config.max_age <= self._wall_ns() / 1e9 - self._birth_s

    def _rotate(self) -> None:
        stamp = next_stamp(self._wall_ns(), self._last_stamp)
        os.rename(self.path, self._directory / f"{self._stem}.{stamp}.log")
        self._last_stamp = stamp
        self.close()
        self._open()  # has the archives put in order
        self.size_bytes = 0

    def _submit(self) -> None:
        self._archivist.submit(Job(self.daemon, self._directory, self._stem, self.config))
