"""Deadlines on the boot-time clock, as one timer of the event loop for the earliest of all."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable

from duende.system.clock import Clock

__all__ = ["Timers"]

# The event loop's clock stands still while the machine is suspended, the boot-time clock does not. A wait is never
# longer than this, so after a resume a deadline is late by at most as much. (timerfd on CLOCK_BOOTTIME would be exact;
# Python has it from 3.13.)
_LONGEST_WAIT_S = 300.0


class Timers:
    """Calls `fire(name, token)` when due. Tokens that nobody waits for any more are told by `is_live` and cost no
    wake-up.
    """

    def __init__(self, clock: Clock, fire: Callable[[str, int], None], is_live: Callable[[str, int], bool]) -> None:
        self._clock = clock
        self._fire = fire
        self._is_live = is_live
        self._heap: list[tuple[float, str, int]] = []
        self._handle: asyncio.TimerHandle | None = None
        self._handle_for_s = 0.0

    def arm(self, name: str, token: int, deadline_s: float) -> None:
        """Remember a deadline; `plan` must follow."""
        heapq.heappush(self._heap, (deadline_s, name, token))

    def plan(self) -> None:
        """Drop what is dead at the top and set the loop's timer to the earliest that lives."""
        while self._heap and not self._is_live(self._heap[0][1], self._heap[0][2]):
            heapq.heappop(self._heap)
        if not self._heap:
            self.stop()
            return
        deadline_s = self._heap[0][0]
        if self._handle is not None and self._handle_for_s == deadline_s:
            return
        self.stop()
        wait_s = min(max(deadline_s - self._clock.boottime_s(), 0.0), _LONGEST_WAIT_S)
        self._handle_for_s = deadline_s
        self._handle = asyncio.get_running_loop().call_later(wait_s, self._due)

    def stop(self) -> None:
        """No more calls."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _due(self) -> None:
        self._handle = None
        now_s = self._clock.boottime_s()
        while self._heap and self._heap[0][0] <= now_s:
            _, name, token = heapq.heappop(self._heap)
            if self._is_live(name, token):
                self._fire(name, token)
        self.plan()
