"""Brings signals to the event loop, and keeps forked children from bringing theirs."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable

from duende.model.signals import Signal

__all__ = ["SignalRelay"]

_RELAYED = (Signal.TERM, Signal.INT, Signal.QUIT, Signal.HUP, Signal.USR1, Signal.USR2)

_current: SignalRelay | None = None
_fork_hooks_registered = False
_masks = threading.local()  # of the thread that forks, from before to after


class SignalRelay:
    """From its making until `close`, the six signals call the receiver on `loop` instead of acting on the process.

    Signals that arrive before the loop runs are kept and delivered when it does. Main thread only (Python's rule).
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, receiver: Callable[[Signal], None]) -> None:
        global _current, _fork_hooks_registered
        self.receiver = receiver
        self._loop = loop
        self._previous = {number: signal.getsignal(number) for number in _RELAYED}
        for number in _RELAYED:
            loop.add_signal_handler(number, self._relay, number)
        _current = self
        if not _fork_hooks_registered:
            os.register_at_fork(
                before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
            )
            _fork_hooks_registered = True

    def exit_at_second(self, interrupt: Callable[[int], None]) -> None:
        """Call `interrupt` with the number of the second SIGINT or SIGTERM, at once, even if the loop is blocked."""
        seen: list[int] = []

        def on_signal(number: int, _frame: object) -> None:
            seen.append(number)  # the loop learns of the first through its wake-up descriptor
            if len(seen) > 1:
                interrupt(number)

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, on_signal)

    def close(self) -> None:
        """Put the previous handlers back."""
        global _current
        for number in _RELAYED:
            self._loop.remove_signal_handler(number)
            signal.signal(number, self._previous[number] or signal.SIG_DFL)
        _current = None

    def _relay(self, number: Signal) -> None:
        self.receiver(number)


# In a child that the daemon forks (multiprocessing) signals must act on the child again. Otherwise our handlers, which
# do nothing themselves, make it deaf to `child.terminate()`, and write into the wake-up socket that it shares with us,
# which stops the daemon (https://github.com/python/cpython/issues/66285). Signals are blocked until that is mended: a
# parent that forks and terminates at once was seen to hit the gap.


def _before_fork() -> None:
    _masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, _RELAYED if _current is not None else ())


def _after_fork_in_parent() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.before)


def _after_fork_in_child() -> None:
    if _current is not None:
        signal.set_wakeup_fd(-1)
        for number in _RELAYED:
            signal.signal(number, signal.default_int_handler if number is Signal.INT else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.before)
