"""When a daemon that runs once per slot is to run, as configured, and the moments that its slots are."""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = ["Missed", "Moment", "Overlap", "ScheduleConfig"]


class Overlap(enum.Enum):
    """What a slot means while the run before it is not over; two runs at once there never are."""

    SKIP = "skip"  # this slot is left out (Kubernetes: Forbid; systemd does the same)
    QUEUE = "queue"  # one run waits until that one has ended; further slots are left out
    REPLACE = "replace"  # that one is stopped, and the new one follows


class Missed(enum.Enum):
    """What becomes of slots that passed while nobody could act: no manager, machine asleep, wall clock set forth."""

    SKIP = "skip"
    ONCE = "once"  # one run makes up for all of them (systemd: Persistent=true)


@dataclass(frozen=True, slots=True)
class ScheduleConfig:
    """Either `cron` or `every` is set; durations in seconds."""

    cron: str | None = None  # five fields of crontab(5), or @daily and the like
    every: float | None = None  # from one slot to the next, on a clock that nobody can set
    timezone: str | None = None  # of `cron`, an IANA name; None is the machine's
    jitter: float = 0.0  # each run is late by a share of this that is its own and always the same
    overlap: Overlap = Overlap.SKIP
    missed: Missed = Missed.SKIP


@dataclass(frozen=True, slots=True)
class Moment:
    """One moment on two clocks: Unix time, and seconds since boot, which mean nothing after another boot (None)."""

    wall_s: float
    boot_s: float | None
