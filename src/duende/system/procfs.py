"""Cheap readers of /proc (proc(5)). A process that is gone, or that we may not look into, is None and never an error.

All of it is a snapshot of something that moves: a list of processes may miss one that forked while it was taken.
Whoever needs *all* processes of an instance asks its cgroup.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from duende.system.failure import translate

__all__ = [
    "MemoryUse",
    "ProcessStat",
    "children",
    "cmdline",
    "descendants",
    "fd_count",
    "list_pids",
    "memory",
    "parse_smaps_rollup",
    "parse_stat",
    "processes_in_group",
    "processes_in_session",
    "stat",
]

_GONE = (FileNotFoundError, ProcessLookupError, PermissionError)
_CHUNK_BYTES = 65536
_FILE_LIMIT_BYTES = 4 << 20  # the longest cmdline the kernel allows by default is a quarter of an 8 MiB stack


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """The fields of /proc/PID/stat that we use; `state` is the letter (R S D Z T t X I), a tick is 1/SC_CLK_TCK s."""

    pid: int
    comm: str
    state: str
    ppid: int
    pgrp: int
    session: int
    utime_ticks: int
    stime_ticks: int
    threads: int
    start_ticks: int


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """`rss_bytes` counts shared pages in full; `pss_bytes` in proportion, None where not asked or not permitted."""

    rss_bytes: int
    pss_bytes: int | None = None
    swap_bytes: int | None = None


def stat(pid: int) -> ProcessStat | None:
    """Read /proc/PID/stat."""
    data = _read(f"/proc/{pid}/stat")
    return None if data is None else parse_stat(data)


def parse_stat(data: bytes) -> ProcessStat | None:
    """Parse the text of /proc/PID/stat. The name may hold anything, `) R 1` and newlines too; the last `)` ends it."""
    opening, closing = data.find(b"("), data.rfind(b")")
    fields = data[closing + 1 :].split()
    if opening < 0 or closing < opening or len(fields) < 20:
        return None
    return ProcessStat(
        pid=int(data[:opening]),
        comm=data[opening + 1 : closing].decode(errors="backslashreplace"),
        state=fields[0].decode(),
        ppid=int(fields[1]),
        pgrp=int(fields[2]),
        session=int(fields[3]),
        utime_ticks=int(fields[11]),
        stime_ticks=int(fields[12]),
        threads=int(fields[17]),
        start_ticks=int(fields[19]),
    )


def list_pids() -> list[int]:
    """All process ids that this /proc shows, ascending."""
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())


def children(pid: int) -> list[int]:
    """The processes whose parent is `pid`, zombies too."""
    return [found.pid for found in _all_stats() if found.ppid == pid]


def descendants(pid: int) -> list[int]:
    """Everything below `pid` in the tree of parents, nearest first, without `pid` itself.

    One that was orphaned (double fork) is not below it any more, save when `pid` is a child subreaper.
    """
    below: dict[int, list[int]] = {}
    for found in _all_stats():
        below.setdefault(found.ppid, []).append(found.pid)
    result = list(below.get(pid, ()))
    seen = {pid, *result}  # a snapshot that is not one moment may hold a circle
    for parent in result:
        fresh = [child for child in below.get(parent, ()) if child not in seen]
        seen.update(fresh)
        result.extend(fresh)
    return result


def processes_in_session(session: int) -> list[int]:
    """The processes of one session (setsid(2)), zombies too."""
    return [found.pid for found in _all_stats() if found.session == session]


def processes_in_group(pgrp: int) -> list[int]:
    """The processes of one process group (setpgid(2)), zombies too."""
    return [found.pid for found in _all_stats() if found.pgrp == pgrp]


def memory(pid: int, *, with_pss: bool = True) -> MemoryUse | None:
    """Read memory use. The proportional part walks the page tables: milliseconds for a process of many GiB."""
    statm = _read(f"/proc/{pid}/statm")
    if not statm:
        return None
    rss_bytes = int(statm.split()[1]) * os.sysconf("SC_PAGE_SIZE")
    rollup = _read(f"/proc/{pid}/smaps_rollup") if with_pss else None
    if not rollup:
        return MemoryUse(rss_bytes)
    values = parse_smaps_rollup(rollup)
    return MemoryUse(rss_bytes, values.get("Pss"), values.get("Swap"))


def parse_smaps_rollup(data: bytes) -> dict[str, int]:
    """Parse the `Name:  12 kB` lines of smaps_rollup into bytes."""
    values = {}
    for line in data.splitlines():
        parts = line.split()
        if len(parts) == 3 and parts[2] == b"kB" and parts[0].endswith(b":"):
            values[parts[0][:-1].decode()] = int(parts[1]) * 1024
    return values


def cmdline(pid: int) -> list[str] | None:
    """The argument list as the process shows it; empty for a zombie or a kernel thread."""
    data = _read(f"/proc/{pid}/cmdline")
    if data is None:
        return None
    return [os.fsdecode(part) for part in data.removesuffix(b"\0").split(b"\0")] if data else []


def fd_count(pid: int) -> int | None:
    """How many descriptors the process has open; None also where we may not look."""
    path = f"/proc/{pid}/fd"
    try:
        # Linux 6.2 gives the number as the size of the directory; 0 before that, and for none at all.
        return os.stat(path).st_size or len(os.listdir(path))
    except OSError:
        return None  # gone, a zombie, or another user's


def _all_stats() -> list[ProcessStat]:
    return [found for pid in list_pids() if (found := stat(pid)) is not None]


def _read(path: str) -> bytes | None:
    """The whole of a small file; None when the process went away (ENOENT, at read ESRCH) or is not ours to read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if isinstance(error, _GONE):
            return None
        raise translate(error, f"read {path}") from error
    try:
        data = os.read(fd, _CHUNK_BYTES)
        if len(data) < _CHUNK_BYTES and not path.endswith("cmdline"):
            return data  # one read gives all of a stat, statm or smaps_rollup
        parts, total = [data], len(data)
        while data and total < _FILE_LIMIT_BYTES:
            data = os.read(fd, _CHUNK_BYTES)
            parts.append(data)
            total += len(data)
        return b"".join(parts)
    except OSError as error:
        if isinstance(error, _GONE):
            return None
        raise translate(error, f"read {path}") from error
    finally:
        os.close(fd)
