"""Reads one log (the archives and the active file of one stem) from a place on, across rotations.

A file is known by its inode while it is open, and an archive by its stamp. The rule that makes following exact: a file
is rotated only between two writes, so once its name leads elsewhere, what is read up to its end is all of it; and every
rotation makes exactly one archive with a later stamp. So after the end of a file come the archives later than those
that were there when it was opened (the first is that file itself, under its new name), and then the active one.
"""

from __future__ import annotations

import gzip
import io
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from duende.runtime.logs.naming import Archive, active_path, list_archives, stamp_time_s
from duende.runtime.logs.place import SAMPLE_BYTES, Place, check_of
from duende.runtime.logs.record import JOIN_MAX_BYTES, Joiner, LogRecord, parse_line

__all__ = ["Query", "Tail"]

_CHUNK_BYTES = 256 * 1024
# A file that is rotated between looking at its name and at the archives is looked at again; a flood rotates every few
# milliseconds at most, looking takes microseconds.
_SNAPSHOT_TRIES = 100


class Query:
    """Which records are wanted."""

    __slots__ = ("since_s", "streams")

    def __init__(self, since_s: float | None, streams: Iterable[str] | None) -> None:
        self.since_s = since_s
        self.streams = None if streams is None else frozenset(streams)

    def wants(self, record: LogRecord) -> bool:
        """Whether the record is one of them; one without a time is as old as its file, so it is wanted."""
        if self.streams is not None and record.stream not in self.streams:
            return False
        return self.since_s is None or record.time_s is None or record.time_s >= self.since_s


class Tail:
    """A place in a log that moves on. `raw_stream` is the stream of a raw log's file, None for the other forms."""

    def __init__(self, daemon: str, directory: Path, stem: str, raw_stream: str | None, query: Query) -> None:
        self._daemon = daemon
        self._directory = directory
        self.stem = stem
        self._raw_stream = raw_stream
        self._query = query
        self._path = active_path(directory, stem)
        self._pending: list[Archive] = []
        self._last_stamp = ""  # of the archives that were there when the present file was opened
        self._file: io.BufferedIOBase | None = None
        self._is_active = False
        self._active: io.BufferedReader | None = None  # opened by the snapshot, read after the archives
        self._until: int | None = None
        self._rest = b""
        self._joiner = Joiner()
        self._stamp = ""  # of the present file, as in `Place`
        self._offset = 0  # in the present file, after the last whole line
        self._place = Place(stem, False, "")  # the last one where no pieces of a line were held
        self._place_is_checked = True
        self._since_place = 0  # records that came from behind it
        self._begin_at: Place | None = None  # where in the next file to begin
        self._drop = 0  # so many records were handed on by an earlier reader
        self.modified_s = 0.0  # of the present file: the time of records without one
        self._snapshot()

    def _snapshot(self) -> None:
        """Open the active file and list the archives, with no rotation in between."""
        for _ in range(_SNAPSHOT_TRIES):
            try:
                active = open(self._path, "rb")  # noqa: SIM115 kept open, `close` closes it
            except FileNotFoundError:
                active = None
            self._pending = list_archives(self._directory, self.stem)
            if _inode_of_path(self._path) == (os.fstat(active.fileno()).st_ino if active else None):
                break
            if active is not None:
                active.close()
        self._active = active
        self._last_stamp = self._pending[-1].stamp if self._pending else ""
        if self._query.since_s is not None:
            self._pending = [each for each in self._pending if stamp_time_s(each.stamp) >= self._query.since_s]

    def resume(self, place: Place) -> None:
        """Go to a place that an earlier tail of this log was at; what was pruned meanwhile is lost."""
        if place.is_archive:
            self._pending = [archive for archive in self._pending if archive.stamp >= place.stamp]
        else:
            self._pending = [archive for archive in self._pending if archive.stamp > place.stamp]
        self._place = self._begin_at = place._replace(records=0)
        self._drop = place.records

    def place(self) -> Place:
        """Where this tail stands after what `poll` has returned."""
        if not self._place_is_checked:
            assert self._file is not None
            sample = os.pread(self._file.fileno(), min(self._place.offset_bytes, SAMPLE_BYTES), 0)
            self._place = self._place._replace(check=check_of(sample))
            self._place_is_checked = True
        return self._place._replace(records=self._since_place + self._drop)

    def skip_all(self) -> None:
        """Go to the end."""
        self._pending = []
        self._enter_active()
        self._place = Place(self.stem, False, self._last_stamp)
        if self._file is not None:
            self._offset = self._file.seek(0, os.SEEK_END)
            self._mark(self._offset)

    def skip_to_last(self, lines: int) -> None:
        """Go to where at least `lines` wanted records follow, and not much farther back."""
        wanted = lines + 2  # the first one found of each stream may be the end of a longer line
        kept: list[Archive] = []
        offset = 0
        if self._active is not None:
            offset, found = self._find_back(self._active, wanted)
            wanted -= found
        while wanted > 0 and self._pending:
            archive = self._pending.pop()
            kept.insert(0, archive)
            if not archive.compressed:
                try:
                    with open(archive.path, "rb") as file:
                        wanted -= self._find_back(file, wanted)[1]
                except FileNotFoundError:
                    continue  # compressed or pruned meanwhile; read or skipped when its turn comes
            else:
                wanted -= self._count_compressed(archive)
        self._pending = kept
        if self._active is not None:
            self._active.seek(offset)

    def _find_back(self, file: io.BufferedReader, wanted: int) -> tuple[int, int]:
        """From which offset of a file `wanted` records follow, and how many do (fewer only from offset 0)."""
        size_bytes = os.fstat(file.fileno()).st_size
        span = min(max(wanted * 256, 8192), 16 * _CHUNK_BYTES)
        while True:
            start = max(size_bytes - span, 0)
            data = os.pread(file.fileno(), size_bytes - start, start)
            skipped = data.find(b"\n") + 1 if start else 0
            lines = data[skipped:].split(b"\n")[:-1]
            found = sum(1 for line in lines if self._is_wanted_end(line))
            if found >= wanted or start == 0:
                return start + skipped, found
            span *= 4

    def _is_wanted_end(self, line: bytes) -> bool:
        record = self._parse(line)
        return not record.partial and self._query.wants(record)

    def _count_compressed(self, archive: Archive) -> int:
        try:
            with gzip.open(archive.path) as file:
                rest, found = b"", 0
                while chunk := file.read(_CHUNK_BYTES):
                    *lines, rest = (rest + chunk).split(b"\n")
                    found += sum(1 for line in lines if self._is_wanted_end(line))
                return found
        except FileNotFoundError:
            return 0

    def stop_at_present_end(self) -> None:
        """Read no further than the active file goes now, so that reading ends while a daemon floods."""
        self._until = os.fstat(self._active.fileno()).st_size if self._active is not None else 0

    def poll(self) -> list[LogRecord]:
        """The next records, some hundred kilobytes of them; empty when there is nothing more for now."""
        while True:
            if self._file is None and not self._advance():
                return []
            chunk = self._read()
            if not chunk:
                if self._is_active and (self._until is not None or not self._is_replaced()):
                    return []
                # Replaced: nothing is written to it after its renaming, so one more look shows all that is left.
                chunk = self._read()
            at_end = not chunk
            if at_end and self._rest:
                chunk = b"\n"  # a line without an end; no other file goes on with it
            records = self._take(chunk) if chunk else []
            if at_end:
                self._leave()
            if records:
                return records

    def _read(self) -> bytes:
        assert self._file is not None
        count = _CHUNK_BYTES
        if self._is_active:
            position = self._file.tell()
            if os.fstat(self._file.fileno()).st_size < position:
                self._file.seek(0)  # another program truncated it (logrotate's copytruncate)
                position, self._rest, self._offset = 0, b"", 0
                self._mark(0)
            if self._until is not None:
                count = max(min(count, self._until - position), 0)
        return self._file.read(count) or b""

    def rest(self) -> list[LogRecord]:
        """What is there without its end: a line of a raw log without a newline, pieces of one that goes on."""
        records = self._joiner.rest()
        if self._rest and self._raw_stream is not None:
            records.append(LogRecord(self._daemon, self._raw_stream, self._rest, partial=True))
        return [record for record in records if self._query.wants(record)]

    def close(self) -> None:
        """Close what is open."""
        for file in (self._file, self._active):
            if file is not None:
                file.close()
        self._file = self._active = None

    def _take(self, chunk: bytes) -> list[LogRecord]:
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        records: list[LogRecord] = []
        marked: int | None = None
        for line in lines:
            self._offset += len(line) + 1
            self._keep(self._joiner.add(self._parse(line)), records)
            if self._joiner.is_empty:
                marked, self._since_place, self._drop = self._offset, 0, 0
        if len(self._rest) > JOIN_MAX_BYTES:  # only a raw log, or a file of others, has such lines
            self._offset += len(self._rest)
            self._keep(replace(self._parse(self._rest), partial=True), records)
            self._rest = b""
            if self._joiner.is_empty:
                marked, self._since_place, self._drop = self._offset, 0, 0
        if marked is not None:
            self._mark(marked)
        return records

    def _keep(self, record: LogRecord | None, records: list[LogRecord]) -> None:
        """Put it to the others if it is wanted, and was not handed on before."""
        if record is None or not self._query.wants(record):
            return
        self._since_place += 1
        if self._drop:
            self._drop -= 1
        else:
            records.append(record)

    def _mark(self, offset_bytes: int) -> None:
        """A place in the present file where no pieces are held."""
        self._place = Place(self.stem, not self._is_active, self._stamp, offset_bytes)
        self._place_is_checked = not self._is_active or offset_bytes == 0

    def _parse(self, line: bytes) -> LogRecord:
        if self._raw_stream is not None:
            return LogRecord(self._daemon, self._raw_stream, line)
        return parse_line(self._daemon, line)

    def _advance(self) -> bool:
        """Go to the next file; False when there is none yet."""
        while self._pending:
            archive = self._pending.pop(0)
            try:
                self._file = _open_archive(archive)
            except FileNotFoundError:
                continue  # pruned: the log's own bound
            self._is_active = False
            self.modified_s = stamp_time_s(archive.stamp)
            self._begin(archive.stamp)
            return True
        return self._enter_active()

    def _enter_active(self) -> bool:
        if self._active is None:
            later = self._last_stamp
            if self._until is not None:
                return False
            self._snapshot()
            # Archives that came since the last file was left are read first; older ones have been.
            self._pending = [archive for archive in self._pending if archive.stamp > later]
            if self._pending:
                return self._advance()
            if self._active is None:
                return False
        self._file, self._active, self._is_active = self._active, None, True
        self.modified_s = os.fstat(self._file.fileno()).st_mtime
        self._begin(self._last_stamp)
        return True

    def _begin(self, stamp: str) -> None:
        """A file was opened: go to where it is to be begun. `stamp` as in `Place`."""
        assert self._file is not None
        self._stamp, self._offset = stamp, self._file.tell()
        place, self._begin_at = self._begin_at, None
        if place is not None and self._has(place):
            self._offset = self._file.seek(place.offset_bytes)
        elif place is not None:
            self._drop = 0
        if self._joiner.is_empty:
            self._mark(self._offset)

    def _has(self, place: Place) -> bool:
        """Whether the file that was just opened is the one that is meant."""
        assert self._file is not None
        if place.is_archive:
            return not self._is_active and place.stamp == self._stamp
        sample = self._file.read(min(place.offset_bytes, SAMPLE_BYTES))
        self._file.seek(self._offset)
        return check_of(sample) == place.check

    def _is_replaced(self) -> bool:
        assert self._file is not None
        return _inode_of_path(self._path) != os.fstat(self._file.fileno()).st_ino

    def _leave(self) -> None:
        """Done with a file. When it was the active one, skip it where it turns up as an archive."""
        assert self._file is not None
        self.place()  # while its beginning can be read
        if self._is_active:
            for archive in list_archives(self._directory, self.stem):
                if archive.stamp > self._last_stamp and self._is_same(archive):
                    self._last_stamp = archive.stamp
                    break
        self._file.close()
        self._file = None
        self._is_active = False

    def _is_same(self, archive: Archive) -> bool:
        """Whether an archive is the file that is open: by its inode, or if compressed by length and beginning."""
        assert self._file is not None
        status = os.fstat(self._file.fileno())
        try:
            if not archive.compressed and _inode_of_path(Path(archive.path)) == status.st_ino:
                return True
            if status.st_nlink and not os.path.exists(f"{archive.path.removesuffix('.gz')}.gz"):
                return False
            with _open_archive(archive) as file:
                sample = file.read(SAMPLE_BYTES)
                if sample != os.pread(self._file.fileno(), SAMPLE_BYTES, 0):
                    return False
                return len(sample) + _length(file) == status.st_size
        except FileNotFoundError:
            return False


def _length(file: io.BufferedIOBase) -> int:
    """How much is left of an opened archive; reads it to its end."""
    length = 0
    while chunk := file.read(_CHUNK_BYTES):
        length += len(chunk)
    return length


def _inode_of_path(path: Path) -> int | None:
    try:
        return os.stat(path).st_ino
    except FileNotFoundError:
        return None


def _open_archive(archive: Archive) -> io.BufferedIOBase:
    """Open an archive, plain or (also when it was compressed since it was listed) compressed."""
    if archive.compressed:
        return gzip.open(archive.path)
    try:
        return open(archive.path, "rb")
    except FileNotFoundError:
        return gzip.open(f"{archive.path}.gz")
