"""Learn that somebody has set the wall clock, so that what waits for a time of day can look again.

Linux tells: a timer of CLOCK_REALTIME with TFD_TIMER_CANCEL_ON_SET becomes readable, and read(2) fails with ECANCELED
(timerfd_create(2), Linux 3.0). That is so for settimeofday(2), for steps of NTP, and after a suspend. Elsewhere there
is no such event, and the clock is looked at once a minute.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import sys
from collections.abc import Callable

from duende.system.failure import translate

__all__ = ["ClockSetWatch"]

_CLOCK_REALTIME = 0  # linux/time.h
_TFD_TIMER_ABSTIME = 1  # linux/timerfd.h
_TFD_TIMER_CANCEL_ON_SET = 2
_NEVER_S = 2**40  # seconds; only the cancellation is of interest
_LOOK_S = 60.0  # where nothing tells: a run is late by at most as much after the clock was set forth


class ClockSetWatch:
    """Calls `was_set` on the running event loop when the wall clock may have been set, until `close`."""

    def __init__(self, was_set: Callable[[], None]) -> None:
        self._was_set = was_set
        self._loop = asyncio.get_running_loop()
        self._look: asyncio.TimerHandle | None = None
        self._fd = _open_timer()
        if self._fd is None:
            self._look = self._loop.call_later(_LOOK_S, self._look_again)
        else:
            self._loop.add_reader(self._fd, self._readable)

    def close(self) -> None:
        """No more calls."""
        if self._look is not None:
            self._look.cancel()
            self._look = None
        if self._fd is not None:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = None

    def _readable(self) -> None:
        assert self._fd is not None
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ECANCELED:
                raise translate(error, "watch the wall clock") from error
        self._was_set()

    def _look_again(self) -> None:
        self._look = self._loop.call_later(_LOOK_S, self._look_again)
        self._was_set()


def _open_timer() -> int | None:
    """A timer that only ever tells that the clock was set; None where there is no such thing."""
    if sys.platform != "linux":
        return None
    import ctypes  # here: it takes longer to import than all the rest of this file

    libc = ctypes.CDLL(None, use_errno=True)
    with contextlib.suppress(AttributeError):  # a C library without it
        fd: int = libc.timerfd_create(_CLOCK_REALTIME, os.O_NONBLOCK | os.O_CLOEXEC)
        if fd < 0:
            return None
        spec = (ctypes.c_long * 4)(0, 0, _NEVER_S, 0)  # struct itimerspec: interval, then value
        if libc.timerfd_settime(fd, _TFD_TIMER_ABSTIME | _TFD_TIMER_CANCEL_ON_SET, spec, None) == 0:
            return fd
        os.close(fd)  # a kernel (or what stands in for one) that does not know the flag
    return None
