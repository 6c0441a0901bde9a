"""The processes of a tree in the wire form of `duende ps`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from duende.system import procfs

__all__ = ["describe"]

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def describe(name: str, pids: Iterable[int]) -> list[dict[str, Any]]:
    """One row a process; those that end meanwhile are left out."""
    rows = []
    for pid in pids:
        stat, memory = procfs.stat(pid), procfs.memory(pid, with_pss=False)
        if stat is None or memory is None:
            continue
        rows.append({
            "name": name, "pid": pid, "ppid": stat.ppid, "state": stat.state, "rss_bytes": memory.rss_bytes,
            "cpu_s": (stat.utime_ticks + stat.stime_ticks) / _TICKS_PER_S, "threads": stat.threads,
            "command": " ".join(procfs.cmdline(pid) or [f"[{stat.comm}]"]),
        })  # fmt: skip
    return rows
