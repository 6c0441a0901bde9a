"""What the kernel says of a process: memory, processor time, wake-ups."""

from __future__ import annotations

import os
from dataclasses import dataclass

__all__ = ["Activity", "activity", "minor_faults", "private_bytes", "pss_bytes"]


@dataclass(frozen=True, slots=True)
class Activity:
    """What all threads of a process have done so far."""

    cpu_s: float
    wakeups: int  # voluntary context switches: each is a sleep that ended
    preemptions: int

    def since(self, before: Activity) -> Activity:
        """The difference."""
        return Activity(self.cpu_s - before.cpu_s, self.wakeups - before.wakeups, self.preemptions - before.preemptions)


def activity(pid: int) -> Activity:
    """Over all threads. schedstat begins with nanoseconds on a processor (Documentation/scheduler/sched-stats.rst)."""
    cpu_ns = wakeups = preemptions = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        folder = f"/proc/{pid}/task/{thread}"
        with open(f"{folder}/schedstat", encoding="ascii") as file:
            cpu_ns += int(file.read().split()[0])
        with open(f"{folder}/status", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith("voluntary_ctxt_switches:"):
                    wakeups += int(line.split()[1])
                elif line.startswith("nonvoluntary_ctxt_switches:"):
                    preemptions += int(line.split()[1])
    return Activity(cpu_ns / 1e9, wakeups, preemptions)


def minor_faults(pid: int) -> int:
    """Page faults that needed no disk, mostly copies after a fork; field 10 of proc_pid_stat(5)."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[7])


def pss_bytes(pid: int) -> int:
    """Its own pages and its share of those it shares (proc_pid_smaps_rollup(5))."""
    return _rollup(pid, "Pss:")


def private_bytes(pid: int) -> int:
    """What would be free if it ended."""
    return _rollup(pid, "Private_Clean:") + _rollup(pid, "Private_Dirty:")


def _rollup(pid: int, key: str) -> int:
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        for line in file:
            if line.startswith(key):
                return int(line.split()[1]) * 1024
    raise ValueError(f"/proc/{pid}/smaps_rollup has no {key}")
