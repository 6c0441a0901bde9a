"""What a manager was in the midst of when it was killed: one small file, mapped into memory.

Bytes go from a pipe to a log file in two acts, *written* and *consumed* (see `source.py`). Between them they are in
both places, and a kill there would make the next manager write them again. So before the first act the intent is put
down here (which pipe, which file, where in it, how much), and struck out after the second. Stores into a shared mapping
are in the page cache at once: they survive the process and cost no system call. After a reboot the pipes are gone too,
so the file does not have to survive that: it is tied to the boot id.

The next manager, on opening the log file, finds an intent for it and compares the file's size:
  as before the write       nothing happened; the bytes are in the pipe
  between                   a torn write: it is cut off; the bytes are in the pipe
  as after the write        written. Whether it was consumed too, the pipe tells: it holds fewer bytes than it did, or
                            does not begin with the same bytes: consumed; otherwise not, and it is consumed now.
Each slot also keeps whether its stream is in the middle of a line, of which pieces are already in the log.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

from duende.errors import ResourceLimit

__all__ = ["Cursor", "CursorFile", "Intent", "fingerprint"]

_MAGIC = b"duende-cursor-1\0"
_SLOT_BYTES = 64
# Streams of all instances at once. 512 KiB; an instance needs two.
_SLOTS = 8192
_FILE_BYTES = (_SLOTS + 1) * _SLOT_BYTES
# The head is state, mid-line, pipe inode; the fields of `Intent` follow.
_HEAD = struct.Struct("<BBxxxxxxQ")
_INTENT = struct.Struct("<QQQIIIB")

_FREE, _IDLE, _INTENDED, _WRITTEN = range(4)
_SAMPLE_BYTES = 4096


def fingerprint(block: bytes) -> int:
    """Tells two blocks of equal length apart by their ends: all of a block would cost a third of the throughput."""
    return zlib.crc32(block[-_SAMPLE_BYTES:], zlib.crc32(block[:_SAMPLE_BYTES]))


class Intent(NamedTuple):
    """A write that was begun."""

    file_inode: int
    offset: int  # the file's size before
    length: int  # what is written
    taken: int  # how much of the pipe that is
    waiting: int  # the pipe held at least this much, that included
    fingerprint: int
    mid_line: bool  # whether the stream is in the middle of a line after it


class Cursor:
    """The slot of one stream. `file` is None for a stream that can't be known again: then it lives in memory only."""

    def __init__(self, file: CursorFile | None, index: int, pipe_inode: int) -> None:
        self._file = file
        self._at = (index + 1) * _SLOT_BYTES
        self.pipe_inode = pipe_inode
        self.is_new = True
        self._mid_line = False
        if file is not None:
            state, mid_line, known = _HEAD.unpack_from(file.map, self._at)
            self.is_new = state == _FREE or known != pipe_inode
            self._mid_line = bool(mid_line) and not self.is_new
            if self.is_new:
                _HEAD.pack_into(file.map, self._at, _FREE, 0, pipe_inode)
                file.map[self._at] = _IDLE

    @property
    def mid_line(self) -> bool:
        """Whether pieces of the current line are in the log already."""
        return self._mid_line

    def intend(self, intent: Intent) -> None:
        """Put down what is about to be written."""
        if self._file is None:
            return
        _INTENT.pack_into(self._file.map, self._at + _HEAD.size, *intent)
        self._file.map[self._at] = _INTENDED  # last, and one byte: an intent is there as a whole or not at all

    def settle(self, *, mid_line: bool | None = None) -> None:
        """Written and consumed (or neither, then without `mid_line`)."""
        if mid_line is not None:
            self._mid_line = mid_line
        if self._file is None:
            return
        if mid_line is not None:
            self._file.map[self._at + 1] = mid_line
        self._file.map[self._at] = _IDLE

    def written(self) -> Intent | None:
        """The write that an earlier manager completed, perhaps without consuming it."""
        if self._file is None or self._file.map[self._at] != _WRITTEN:
            return None
        return Intent._make(_INTENT.unpack_from(self._file.map, self._at + _HEAD.size))

    def release(self) -> None:
        """The pipe has ended: its number may come again."""
        if self._file is not None:
            self._file.map[self._at] = _FREE
            self._file.give_back(self.pipe_inode)
            self._file = None


class CursorFile:
    """All slots of a log directory. Used by one thread of one manager."""

    def __init__(self, path: Path, boot_id: str) -> None:
        """Map the file at `path`; OSError where that can't be (then `CursorFile.in_memory` serves until a restart)."""
        head = _MAGIC + boot_id.encode()[: _SLOT_BYTES - len(_MAGIC)]
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            if os.pread(fd, _SLOT_BYTES, 0).rstrip(b"\0") != head.rstrip(b"\0"):
                os.ftruncate(fd, 0)
            # A hole on a full disk would be SIGBUS at the first store into it, so the room is taken now.
            os.posix_fallocate(fd, 0, _FILE_BYTES)
            self._start(mmap.mmap(fd, _FILE_BYTES))
        finally:
            os.close(fd)  # the mapping stays
        self.map[: len(head)] = head

    @classmethod
    def in_memory(cls) -> CursorFile:
        """Slots that no later manager can read: a kill may then write a block twice."""
        self = cls.__new__(cls)
        self._start(mmap.mmap(-1, _FILE_BYTES))
        return self

    def _start(self, mapping: mmap.mmap) -> None:
        self.map = mapping
        self._by_pipe: dict[int, int] = {}
        self._claimed: set[int] = set()
        self._free: list[int] = []
        self._unused = 0
        self._scan()

    def _scan(self) -> None:
        for index in range(_SLOTS):
            state, _, pipe_inode = _HEAD.unpack_from(self.map, (index + 1) * _SLOT_BYTES)
            if pipe_inode == 0:
                break  # slots are given out in order, so the rest was never used
            if state == _FREE:
                self._free.append(index)
            else:
                self._by_pipe[pipe_inode] = index
            self._unused = index + 1

    def claim(self, pipe_inode: int) -> Cursor:
        """The slot of a pipe: its old one, or a new one. ResourceLimit when all are taken."""
        if pipe_inode == 0:
            return Cursor(None, 0, 0)
        index = self._by_pipe.get(pipe_inode)
        if index is None:
            if not self._free and self._unused == _SLOTS:
                self._drop_unclaimed()
            if self._free:
                index = self._free.pop()
            elif self._unused < _SLOTS:
                index = self._unused
                self._unused += 1
            else:
                raise ResourceLimit(f"cannot capture another stream: {_SLOTS} are captured already")
            self._by_pipe[pipe_inode] = index
        self._claimed.add(pipe_inode)
        return Cursor(self, index, pipe_inode)

    def give_back(self, pipe_inode: int) -> None:
        """Called by `Cursor.release`."""
        self._free.append(self._by_pipe.pop(pipe_inode))
        self._claimed.discard(pipe_inode)

    def resolve(self, file_inode: int, size_bytes: int) -> int | None:
        """Settle what was intended for a log file of this size; the size to cut it to, or None to leave it."""
        cut_to = None
        for index in self._by_pipe.values():
            at = (index + 1) * _SLOT_BYTES
            if self.map[at] != _INTENDED:
                continue
            intent = Intent._make(_INTENT.unpack_from(self.map, at + _HEAD.size))
            if intent.file_inode != file_inode:
                continue
            if size_bytes >= intent.offset + intent.length:
                self.map[at + 1] = intent.mid_line
                self.map[at] = _WRITTEN
                continue
            self.map[at] = _IDLE
            if size_bytes > intent.offset:
                cut_to = intent.offset
        return cut_to

    def _drop_unclaimed(self) -> None:
        """Free the slots of pipes that no manager attached again: they are gone."""
        for pipe_inode in [inode for inode in self._by_pipe if inode not in self._claimed]:
            self.map[(self._by_pipe[pipe_inode] + 1) * _SLOT_BYTES] = _FREE
            self.give_back(pipe_inode)

    def close(self) -> None:
        """Unmap; the file stays for the next manager."""
        self.map.close()
