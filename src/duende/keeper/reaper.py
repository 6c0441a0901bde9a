"""Reap what fell to the keeper as child subreaper (prctl(2)), and leave the zombies that are instances.

wait(2) can't be asked for "any child but these", and always shows the oldest zombie first, which may be an instance
that is held. Then the list of children is looked through, which costs time for each of them: with many instances that
is done once for many ends, not at each of them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

__all__ = ["Reaper"]

_PAUSE_PER_CHILD_S = 0.0001  # between two looks through all children: some 5 us for each, so at most a tenth of a core
_PAUSE_MAX_S = 0.5


class Reaper:
    """`is_instance(pid)`, `is_unsure()` (a child may be an instance that has not told its number yet), `on_stop(pid,
    "stopped" | "continued")` and `on_reaped(pid)` are the keeper's.
    """

    def __init__(
        self, is_instance: Callable[[int], Any], is_unsure: Callable[[], bool], on_stop: Callable[[int, str], None],
        on_reaped: Callable[[int], None],
    ) -> None:  # fmt: skip
        self.is_instance = is_instance
        self.is_unsure = is_unsure
        self.on_stop = on_stop
        self.on_reaped = on_reaped
        self.is_due = False
        self.not_before_s = 0.0

    def timeout_s(self) -> float | None:
        """How long the keeper's loop may wait before `look` is to be called; None for ever."""
        if not self.is_due or self.is_unsure():
            return None  # whoever becomes sure calls `reap`
        return max(0.0, self.not_before_s - time.monotonic())

    def on_child(self) -> None:
        """SIGCHLD came: a child ended, stopped or went on; one signal may stand for many."""
        while (found := _waitid(os.WSTOPPED | os.WCONTINUED | os.WNOHANG)) is not None:
            self.on_stop(found.si_pid, "continued" if found.si_code == os.CLD_CONTINUED else "stopped")
        self.reap()

    def reap(self) -> None:
        """Reap strangers as long as one stands in front; behind an instance's zombie look at each child, soon."""
        while (found := _waitid(os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
            if self.is_instance(found.si_pid) or self.is_unsure():
                self.is_due = True
                return
            self.on_reaped(os.waitpid(found.si_pid, 0)[0])

    def look(self) -> None:
        """Look through all children, if that is due and its time has come."""
        if not self.is_due or time.monotonic() < self.not_before_s or self.is_unsure():
            return
        self.is_due = False
        try:
            with open("/proc/thread-self/children", encoding="ascii") as file:
                pids = [int(pid) for pid in file.read().split()]
        except OSError:
            return  # no descriptor is free; the next end of a child brings us here again
        for pid in pids:
            if not self.is_instance(pid) and os.waitpid(pid, os.WNOHANG)[0]:
                self.on_reaped(pid)
        self.not_before_s = time.monotonic() + min(_PAUSE_MAX_S, _PAUSE_PER_CHILD_S * len(pids))


def _waitid(options: int) -> Any:
    try:
        return os.waitid(os.P_ALL, 0, options)
    except ChildProcessError:
        return None
