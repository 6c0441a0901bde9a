"""The three clocks. Deadlines use `boottime_s`, durations `monotonic_s`, people and the wire `wall_s` (UTC).

Boot time goes on while the machine sleeps and can't be set, so a deadline kept in it is right after a suspend and after
somebody set the wall clock back.
"""

from __future__ import annotations

import sys
import time
from typing import Protocol

__all__ = ["Clock", "SystemClock", "boottime_s", "monotonic_s", "wall_s"]


class Clock(Protocol):
    """What code that needs time takes as an argument, so that a test can hold the hands."""

    def boottime_s(self) -> float:
        """Seconds since boot, suspend included."""

    def monotonic_s(self) -> float:
        """Seconds of an arbitrary origin, suspend not included on Linux."""

    def wall_s(self) -> float:
        """Unix time in seconds."""


def boottime_s() -> float:
    """Read CLOCK_BOOTTIME (clock_gettime(2), Linux 2.6.39).

    macOS has no clock of that name; its CLOCK_MONOTONIC goes on during sleep and serves the same end. (`time.monotonic`
    does not: there it is mach_absolute_time, which stands still.)
    """
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    else:
        return time.clock_gettime(time.CLOCK_MONOTONIC)


def monotonic_s() -> float:
    """Read the monotonic clock, for durations."""
    return time.monotonic()


def wall_s() -> float:
    """Read the wall clock; it jumps, so never compute a deadline from it."""
    return time.time()


class SystemClock:
    """The machine's own clocks."""

    __slots__ = ()

    def boottime_s(self) -> float:
        """See the function of that name."""
        return boottime_s()

    def monotonic_s(self) -> float:
        """See the function of that name."""
        return monotonic_s()

    def wall_s(self) -> float:
        """See the function of that name."""
        return wall_s()
