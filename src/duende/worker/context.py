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
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from duende.model.signals import Signal
from duende.worker.places import Places

if TYPE_CHECKING:
    from duende.config.daemon import DaemonConfig
    from duende.model.restart import RestartConfig, RestartPolicy
    from duende.worker.children import Child
    from duende.worker.kept import KeptState
    from duende.worker.scope import OwnedTask, Scope
    from duende.worker.services import Service

__all__ = ["DaemonContext"]

STOPPING_SIGNALS = frozenset({Signal.TERM, Signal.INT, Signal.QUIT})

# Signals nobody has received yet. Ten of each of the six kinds; the kernel itself keeps only one of each pending.
_QUEUE_MAX = 60


class _NotYet:
    """What a poll answers while the caller must go on waiting (None is an answer)."""


_NOT_YET = _NotYet()


class DaemonContext:
    """The daemon's view of the outside while it runs; every method may be called from any thread."""

    def __init__(self, config: DaemonConfig, places: Places | None = None, parent: DaemonContext | None = None) -> None:
        self.config = config
        self.places = places or Places()
        self._parent = parent
        self._state: KeptState | None = None
        self._scope: Scope | None = None
        self._queue: deque[Signal] = deque()
        self._should_shutdown = False
        self._changed = threading.Condition()
        self._waiters: set[asyncio.Future[None]] = set()

    @property
    def should_shutdown(self) -> bool:
        """Whether SIGTERM, SIGINT or SIGQUIT has asked to stop, or `run` has ended; never becomes false again."""
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
        self.notify()

    # --- what a daemon begins and keeps

    def task(self, work: Any, *args: Any, name: str | None = None, on_error: str = "end") -> OwnedTask:
        """Begin a task that belongs to the daemon: a coroutine, or something to call with `args`.

        What is `async def` runs on the event loop, a `def` in a thread of its own. It is cancelled and awaited when the
        daemon ends (a `def` has to look at `should_shutdown`). An exception ends the daemon, with its traceback and
        exit code 1; with `on_error="log"` it is only logged and counted. RuntimeError in `init` and when the daemon
        is ending; ValueError when a task of that name is under way.
        """
        return self._need_scope("ctx.task").task(work, args, name, on_error)

    def supervise(
        self, name: str, service: Service, *, restart: RestartConfig | RestartPolicy | str = "on-failure",
        group: str = "", essential: bool = True, settings: Mapping[str, Any] | None = None,
        start_timeout: float = 60.0, shutdown_timeout: float = 10.0,
    ) -> Child:  # fmt: skip
        """Begin a child: a service inside this process, restarted by the rules that duende has for daemons.

        `service` is a class derived from `Daemon` (or a `functools.partial` of one), made anew for each start; or a
        function, `def` or `async def`, that gets a context of its own. Its end with an exception is a failure. A child
        that is given up ends the daemon, unless it is not `essential`. Children of one `group` are restarted together
        as `ctx.group` says. Durations in seconds. ValueError when the name is taken or no name.
        """
        return self._need_scope("ctx.supervise").supervisor.add(
            name, service, restart=restart, group=group, essential=essential, settings=settings or {},
            start_timeout_s=start_timeout, shutdown_timeout_s=shutdown_timeout,
        )  # fmt: skip

    def group(
        self, name: str, strategy: str = "one_for_one", *, intensity: int | None = None, period: float = 5.0
    ) -> None:
        """Say what a child's end means for its group, in OTP's words; before the group's first child.

        `one_for_one`: only that child is restarted; `one_for_all`: all are; `rest_for_one`: those that were begun after
        it. More than `intensity` restarts within `period` seconds, and the whole group is given up.
        """
        self._need_scope("ctx.group").supervisor.add_group(name, strategy, intensity, period)

    @property
    def state(self) -> KeptState:
        """What the daemon keeps across restarts, a mapping; children share it. StateError where there is no place."""
        if self._parent is not None:
            return self._parent.state
        with self._changed:
            if self._state is None:
                from duende.worker.kept import KeptState  # here: not every daemon keeps something

                self._state = KeptState(self.places.state_file())
            return self._state

    # --- for those who run a daemon

    def attach(self, scope: Scope) -> None:
        """Give the context the owner of what is begun by it."""
        self._scope = scope

    def end(self) -> None:
        """Let everybody see that it is over, without a signal."""
        with self._changed:
            self._should_shutdown = True
        self.notify()

    def close(self) -> None:
        """Close what was opened for the daemon."""
        if self._state is not None:
            self._state.close()

    def notify(self) -> None:
        """Let all that wait look again."""
        with self._changed:
            self._changed.notify_all()
            waiters = tuple(self._waiters)
        for waiter in waiters:
            try:
                waiter.get_loop().call_soon_threadsafe(_wake, waiter)
            except RuntimeError:
                continue  # its loop is closed, so that nobody waits there any more

    def wait_until(self, condition: Callable[[], bool], timeout_s: float | None) -> Any:
        """Wait for a condition that `notify` tells of (await it in a coroutine); False when the time is over."""
        return self._wait(lambda: True if condition() else _NOT_YET, timeout_s, False)

    def _need_scope(self, what: str) -> Scope:
        if self._scope is None:
            raise RuntimeError(f"{what} needs a daemon that runs; in a test, run it by duende.run")
        return self._scope

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
