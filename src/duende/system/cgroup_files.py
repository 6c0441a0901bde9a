"""Reading and writing the kernel's cgroup files, unbuffered: a refusal is seen at the write, not lost at close.

Internal to the cgroup modules: OSError passes through and is translated by their public methods.
"""

from __future__ import annotations

import errno
import os

__all__ = ["flat_keyed", "pids_below", "read_text", "subtree", "write_text"]

_CHUNK_BYTES = 65536


def read_text(path: str) -> str:
    """Read a whole file."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(fd, _CHUNK_BYTES):
            parts.append(part)
        return b"".join(parts).decode()
    finally:
        os.close(fd)


def write_text(path: str, text: str) -> None:
    """Write in one write(2), as the kernel's files want it. The file must exist; nothing is created."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def flat_keyed(text: str) -> dict[str, int]:
    """Parse lines of `key number` (cgroup.events, memory.events, memory.oom_control)."""
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def subtree(directory: str) -> list[str]:
    """The directory and all cgroups below it, deepest first (the order to remove them); empty when it is gone."""
    found: list[str] = []
    pending = [directory]
    while pending:
        current = pending.pop()
        try:
            with os.scandir(current) as entries:
                pending.extend(entry.path for entry in entries if entry.is_dir(follow_symlinks=False))
        except FileNotFoundError:
            continue  # removed meanwhile, by whoever made it
        found.append(current)
    return found[::-1]


def pids_below(directory: str) -> list[int]:
    """Every process in the subtree, ascending. A 0 is one that our pid namespace can't name."""
    found: set[int] = set()
    for current in subtree(directory):
        try:
            found.update(int(line) for line in read_text(f"{current}/cgroup.procs").split())
        except OSError as error:
            # ENOENT, ENODEV: removed meanwhile. EOPNOTSUPP: a threaded v2 cgroup, whose processes its domain root
            # lists.
            if error.errno not in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):
                raise
    return sorted(found)
