"""What `run` is given: signals, the wish to stop, the configuration. For coroutines and for blocking code alike.

Methods that wait (`recv_signal`, `wait_shutdown`, `sleep`) fit their caller: called where an event loop is running
they return an awaitable, called from any other thread they block. So `await ctx.recv_signal()` is right in an `async
def run` and `ctx.recv_signal()` in a `def run`, also in a thread that an async run has started. All return on shutdown.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from duende.model.signals import Signal

if TYPE_CHECKING:
    from duende.config.daemon import DaemonConfig

__all__ = ["DaemonContext"]

STOPPING_SIGNALS = frozenset({Signal.TERM, Signal.INT, Signal.QUIT})

# Signals nobody has received yet. Ten of each of the six kinds; the kernel itself keeps only one of each pending.
_QUEUE_MAX = 60


class _NotYet:
    """What a poll answers while the caller must go on waiting (None is an answer)."""


_NOT_YET = _NotYet()


class DaemonContext:
    """The daemon's view of the outside while it runs; every method may be called from any thread."""

    def __init__(self, config: DaemonConfig) -> None:
        self.config = config
        self._queue: deque[Signal] = deque()
        self._should_shutdown = False
        self._changed = threading.Condition()
        self._waiters: set[asyncio.Future[None]] = set()

    @property
    def should_shutdown(self) -> bool:
        """Whether SIGTERM, SIGINT or SIGQUIT has asked to stop; never becomes false again."""
        return self._should_shutdown

    def try_recv_signal(self) -> Signal | None:
        """Take the oldest signal that has arrived, or None; never waits."""
        with self._changed:
            return self._queue.popleft() if self._queue else None

    # The three below return Any: a coroutine in a loop, else the value itself, which no type can say.

    def recv_signal(self, timeout: float | None = None) -> Any:
        """Wait for the next signal and take it (await it in a coroutine).

        Answers a `Signal`, those that ask to stop included; None when `timeout` seconds have passed, or when nothing
        has arrived and the daemon is asked to stop.
        """
        return self._wait(self._poll_signal, timeout, None)

    def wait_shutdown(self, timeout: float | None = None) -> Any:
        """Wait until asked to stop (await it in a coroutine); True if so, False when `timeout` seconds have passed."""
        return self._wait(self._poll_shutdown, timeout, False)

    def sleep(self, seconds: float) -> Any:
        """Wait `seconds`, or less if asked to stop (await it in a coroutine); answers None."""
        return self._wait(lambda: None if self._should_shutdown else _NOT_YET, seconds, None)

    def deliver(self, signal: Signal) -> None:
        """Hand over a signal, for those who run a daemon: the worker, a test. KILL, STOP and CONT are ValueErrors."""
        if signal in (Signal.KILL, Signal.STOP, Signal.CONT):
            raise ValueError(f"{signal.full_name} can't be delivered: the kernel acts on it")
        with self._changed:
            if len(self._queue) >= _QUEUE_MAX:
                self._forget_one()
            self._queue.append(signal)
            if signal in STOPPING_SIGNALS:
                self._should_shutdown = True
            self._changed.notify_all()
            waiters = tuple(self._waiters)
        for waiter in waiters:
            try:
                waiter.get_loop().call_soon_threadsafe(_wake, waiter)
            except RuntimeError:
                continue  # its loop is closed, so that nobody waits there any more

    def _forget_one(self) -> None:
        """Drop the oldest signal of the kind that is pending most often: one of that kind is still to come."""
        most_frequent, _count = Counter(self._queue).most_common(1)[0]
        self._queue.remove(most_frequent)

    def _poll_signal(self) -> Signal | _NotYet | None:
        if self._queue:
            return self._queue.popleft()
        return None if self._should_shutdown else _NOT_YET

    def _poll_shutdown(self) -> bool | _NotYet:
        return True if self._should_shutdown else _NOT_YET

    def _wait(self, poll: Callable[[], object], timeout_s: float | None, late: object) -> object:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self._block(poll, timeout_s, late)
        return self._suspend(poll, timeout_s, late)

    def _block(self, poll: Callable[[], object], timeout_s: float | None, late: object) -> object:
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        with self._changed:
            while (answer := poll()) is _NOT_YET:
                left_s = threading.TIMEOUT_MAX
                if deadline_s is not None and (left_s := min(deadline_s - time.monotonic(), left_s)) <= 0.0:
                    return late
                self._changed.wait(left_s)
        return answer

    def _suspend(
        self, poll: Callable[[], object], timeout_s: float | None, late: object
    ) -> Coroutine[Any, Any, object]:
        async def suspend() -> object:
            loop = asyncio.get_running_loop()
            deadline_s = None if timeout_s is None else loop.time() + timeout_s
            while True:
                waiter = loop.create_future()
                with self._changed:
                    if (answer := poll()) is not _NOT_YET:
                        break
                    if deadline_s is not None and loop.time() >= deadline_s:
                        return late
                    self._waiters.add(waiter)
                timer = None if deadline_s is None else loop.call_at(deadline_s, _wake, waiter)
                try:
                    await waiter
                finally:
                    if timer is not None:
                        timer.cancel()
                    with self._changed:
                        self._waiters.discard(waiter)
            if answer is None or answer is True:
                # Shutdown: a loop that ignores this answer must not starve the event loop, which ends it in time.
                await asyncio.sleep(0)
            return answer

        return suspend()


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
