"""Look at what daemons with thresholds use, and restart those that use too much for too long."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from duende.adapters.native.adapter import NativeAdapter
from duende.core.events import BecameUnhealthy, Event
from duende.core.threshold import Sample, ThresholdWatch
from duende.errors import NotFound
from duende.model.status import DaemonStatus
from duende.runtime.driver import Slot
from duende.system import procfs
from duende.system.clock import Clock

__all__ = ["Thresholds", "sample"]

_TICKS = os.sysconf("SC_CLK_TCK")


class Thresholds:
    """One timer for each running incarnation that has thresholds; none for the others."""

    def __init__(self, post: Callable[[str, Event], None], clock: Clock) -> None:
        self._post = post
        self._clock = clock
        self._looks: dict[str, tuple[int, asyncio.TimerHandle]] = {}

    def follow(self, slot: Slot) -> None:
        """Make the timer fit the slot's state."""
        name, state = slot.config.name, slot.state
        wanted = slot.config.restart_when.any and state.status is DaemonStatus.RUNNING and state.executed
        present = self._looks.get(name)
        if present is not None and (not wanted or present[0] != state.instance):
            present[1].cancel()
            del self._looks[name]
            present = None
        if wanted and present is None:
            self._plan(slot, state.instance, ThresholdWatch(slot.config.restart_when))

    def close(self) -> None:
        """End all timers."""
        for _, handle in self._looks.values():
            handle.cancel()
        self._looks.clear()

    def _plan(self, slot: Slot, instance: int, watch: ThresholdWatch) -> None:
        loop = asyncio.get_running_loop()
        handle = loop.call_later(watch.config.interval_s, self._look, slot, instance, watch)
        self._looks[slot.config.name] = (instance, handle)

    def _look(self, slot: Slot, instance: int, watch: ThresholdWatch) -> None:
        if slot.handle is None or not isinstance(slot.adapter, NativeAdapter):
            return
        try:
            pids = slot.adapter.tree_of(slot.handle).pids()
        except NotFound:
            return  # it has ended; that is on its way
        if reason := watch.judge(sample(pids, self._clock.boottime_s())):
            self._post(slot.config.name, BecameUnhealthy(instance, reason))
            return
        self._plan(slot, instance, watch)


def sample(pids: list[int], at_s: float) -> Sample:
    """What these processes use together. One that ends meanwhile counts for nothing."""
    memory_bytes, ticks = 0, 0
    files: list[int] = []
    for pid in pids:
        used = procfs.memory(pid)  # shared pages in proportion: workers forked from one parent count them once
        memory_bytes += (used.pss_bytes or used.rss_bytes) if used else 0
        stat = procfs.stat(pid)
        ticks += stat.utime_ticks + stat.stime_ticks if stat else 0
        count = procfs.fd_count(pid)
        if count is not None:
            files.append(count)
    return Sample(at_s, memory_bytes, ticks / _TICKS, max(files, default=None))
