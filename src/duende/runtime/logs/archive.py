"""Compresses and prunes archives, in a thread of its own: neither a slow disk nor zlib holds up what is captured.

A file is compressed into `….gz.tmp`, forced to disk, renamed to `….gz`, and only then the plain one is removed. Killed
anywhere in between, it leaves a `.tmp` (removed by the next pass; the plain file is there) or both (the plain one is
removed by the next pass; readers take only one). Every pass first prunes, so a flood is not compressed for the bin.
"""

from __future__ import annotations

import os
import queue
import re
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from duende.config.daemon import LogConfig
from duende.runtime.logs.naming import Archive, list_archives

__all__ = ["Archivist", "Job"]

_CHUNK_BYTES = 256 * 1024
# 1 is 2 to 3 times as fast as 6 and leaves logs 10 to 20% larger: archives of a flood must not fall behind.
_LEVEL = 1
_GZIP_WINDOW_BITS = 31  # zlib.compressobj: 15 bits of window, in a gzip container


class Job(NamedTuple):
    """Bring the archives of one stem in order."""

    daemon: str
    directory: Path
    stem: str
    config: LogConfig


class Archivist:
    """Owns the thread. `on_error(daemon, message)` is called from it, with an empty message when all is well again."""

    def __init__(self, on_error: Callable[[str, str], None]) -> None:
        self._on_error = on_error
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._failed: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="duende-log-archives", daemon=True)

    def start(self) -> None:
        """Start the thread; it sleeps until there is a job."""
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Have the archives of a stem put in order soon."""
        self._jobs.put(job)

    def close(self, timeout_s: float) -> bool:
        """Finish at the next safe point; what is not compressed is so by the next manager. False if it takes longer."""
        self._closing.set()
        self._jobs.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._closing.is_set():
            jobs = [self._jobs.get()]
            while not self._jobs.empty():
                jobs.append(self._jobs.get())
            # Several rotations of one stem while another was compressed are one job.
            for job in {(job.directory, job.stem): job for job in jobs if job is not None}.values():
                try:
                    tidy(job, self._closing.is_set)
                except OSError as error:
                    self._failed.add(job.daemon)
                    self._on_error(job.daemon, f"cannot archive logs in {job.directory}: {error.strerror or error}")
                else:
                    if job.daemon in self._failed:
                        self._failed.discard(job.daemon)
                        self._on_error(job.daemon, "")


def tidy(job: Job, closing: Callable[[], bool] = lambda: False) -> None:
    """One pass: finish what a kill interrupted, prune, compress until nothing is left to."""
    _remove_leftovers(job.directory, job.stem)
    while not closing():
        plain = [archive for archive in prune(job) if not archive.compressed]
        if not job.config.compress or not plain:
            return
        compress(plain[0].path, closing)


def prune(job: Job) -> list[Archive]:
    """Remove the oldest archives above the configured count and bytes; those that stay."""
    archives = list_archives(job.directory, job.stem)
    excess = max(len(archives) - job.config.keep, 0) if job.config.keep else 0
    if job.config.total_size:
        total = sum(archive.size_bytes for archive in archives[excess:])
        while total > job.config.total_size and excess < len(archives):
            total -= archives[excess].size_bytes
            excess += 1
    for archive in archives[:excess]:
        _unlink(archive.path)
    return archives[excess:]


def compress(path: str, closing: Callable[[], bool] = lambda: False) -> None:
    """Replace a plain archive by a compressed one, or leave it as it was."""
    target, draft = f"{path}.gz", f"{path}.gz.tmp"
    try:
        with open(path, "rb") as source, open(draft, "wb", opener=_private) as out:
            deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP_WINDOW_BITS)
            while chunk := source.read(_CHUNK_BYTES):
                if closing():
                    _unlink(draft)
                    return
                out.write(deflate.compress(chunk))
            out.write(deflate.flush())
            out.flush()
            os.fsync(out.fileno())
    except OSError:
        _unlink(draft)
        raise
    os.rename(draft, target)
    _unlink(path)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)


def _remove_leftovers(directory: Path, stem: str) -> None:
    mine = re.compile(re.escape(stem) + r"\.\d{8}T\d{6}\.\d{6}Z\.log\.gz(\.tmp)?")
    with os.scandir(directory) as entries:
        found = [(entry.path, match[1]) for entry in entries if (match := mine.fullmatch(entry.name))]
    for path, draft in found:
        # A finished `.gz` makes its plain file superfluous; a draft is begun anew.
        _unlink(path if draft else path.removesuffix(".gz"))


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return  # it is what we wanted
