"""One daemon's life: settings, init, ready, run, shutdown, and the end of what it owns. Also that of a child.

The order and the promises are those of the docstring of `duende.worker.daemon`. A stop has two deadlines: when the
time given to `shutdown` has passed, coroutines that are still going are cancelled; a moment later the life gives up
and names the method that did not end. When `init` or `run` and `shutdown` have ended, what `run` has begun by the
context is ended too: its tasks at once, then its children in reverse order.
"""

from __future__ import annotations

import asyncio
import math
import sys
import time
import traceback
from collections.abc import Coroutine
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import Any

from duende.errors import ConfigurationError
from duende.model.signals import Signal
from duende.worker.calls import CallThread, Outcome, call_here
from duende.worker.context import STOPPING_SIGNALS, DaemonContext
from duende.worker.daemon import Daemon
from duende.worker.scope import Scope
from duende.worker.settings import give_settings

__all__ = ["EXIT_FAILED", "EXIT_PERMANENT", "Life", "StopTimes", "Witness", "say"]

EXIT_FAILED = 1
EXIT_PERMANENT = 125  # no retry can mend it; the default of `permanent_exit_codes`


@dataclass(frozen=True, slots=True)
class StopTimes:
    """How long a stop may take from its signal: until coroutines are cancelled, and until the process ends anyway."""

    cancel_s: float
    total_s: float

    @classmethod
    def under_manager(cls, timeout_s: float) -> StopTimes:
        """End before the manager's SIGKILL, by a tenth of the time and at most half a second."""
        return cls.alone(timeout_s - min(0.5, timeout_s / 10))

    @classmethod
    def alone(cls, timeout_s: float) -> StopTimes:
        """Keep a tenth of the time, at most one second, for `finally` blocks of cancelled coroutines."""
        return cls(max(timeout_s - min(1.0, timeout_s / 10), 0.0), max(timeout_s, 0.0))

    @classmethod
    def inside(cls, timeout_s: float) -> StopTimes:
        """Of a child: it can't be left behind while the process goes on, so its end is awaited as long as it takes."""
        return cls(timeout_s, math.inf)


class Witness:
    """Is told how a life goes; this one keeps silent."""

    def on_ready(self) -> None:
        """`init` has returned."""

    def on_stopping(self) -> None:
        """`shutdown` is called."""

    def on_failed_start(self, stage: str, error: BaseException) -> None:
        """The settings do not fit, or `init` has raised."""


@dataclass(frozen=True, slots=True)
class _Call:
    name: str
    task: asyncio.Task[Outcome]
    cancellable: bool


class Life:
    """`deliver` takes the signals; `live` returns the exit code; `error` is what has ended it, if anything was raised.

    All on the loop's thread.
    """

    def __init__(self, daemon: Daemon, context: DaemonContext, times: StopTimes, witness: Witness) -> None:
        self.error: BaseException | None = None
        self._daemon = daemon
        self._context = context
        self._times = times
        self._witness = witness
        self._stop_why = ""  # what has asked to stop: a signal's name, a task's failure
        self._stop_requested = asyncio.Event()
        self._stop_at_s = 0.0
        self._failure_code = 0
        self._calls: list[_Call] = []
        self._killed: list[_Call] = []
        self._run_thread = CallThread("duende-run")
        self._shutdown_thread = CallThread("duende-shutdown")
        self.scope = Scope(daemon.name, context, self.fail)

    def deliver(self, signal: Signal) -> None:
        """Hand a signal to the daemon; the first that asks to stop starts the shutdown."""
        self._context.deliver(signal)
        if signal in STOPPING_SIGNALS:
            self._ask_to_stop(signal.full_name)

    def fail(self, what: str, error: BaseException) -> None:
        """Something that the daemon can't go on without has failed: it is stopped, and its exit code tells."""
        self.error = self.error or error
        self._failure_code = self._failure_code or judge(Outcome(error=error)) or EXIT_FAILED
        if not self._stop_why:
            say(f"{self._daemon.name}: {what} has failed, so the daemon ends")
        self._context.end()
        self._ask_to_stop(f"the failure of {what}")

    def kill(self) -> None:
        """Cancel what still goes on, now. A `def` in a thread can't be."""
        for call in self._calls:
            if not call.task.done():
                self._complain(call, "; it is cancelled" if call.cancellable else "; a thread can't be cancelled")
                if call.cancellable:
                    call.task.cancel()
                    self._killed.append(call)

    def left_s(self) -> float:
        """Seconds until it must be over; the whole time for it while nobody has asked to stop."""
        return self._left_s(self._times.total_s)

    async def live(self) -> int:
        """Settings, init, run, shutdown, and the end of all that was begun; return the exit code."""
        try:
            code = await self._live()
        finally:
            self._run_thread.close()
            self._shutdown_thread.close()
        self._context.end()
        late = await self._close_scope()
        return self._failure_code or code or late

    async def _close_scope(self) -> int:
        self.scope.seal()
        if self.scope.is_unused:
            return 0
        cancel_s = self._left_s(self._times.cancel_s)
        return EXIT_FAILED if await self.scope.close(cancel_s, self.left_s()) else 0

    async def _live(self) -> int:
        try:
            give_settings(self._daemon, self._context.config, self._context.places)
        except ConfigurationError as error:
            self.error = error
            self._witness.on_failed_start("settings", error)
            return EXIT_PERMANENT
        init = self._start("init", self._context.config)
        await self._done_or_stop(init)
        await _let_signals_in()
        if not init.task.done():
            if init.cancellable:
                init.task.cancel()
            await asyncio.wait({init.task}, timeout=self._wait_s())
            if not init.task.done():
                self._complain(init)
                return EXIT_FAILED
        failure = init.task.result().error
        if isinstance(failure, asyncio.CancelledError) and self._stop_requested.is_set():
            return 0  # it was asked to stop before it was ready, and did
        if failure is not None:
            self.error = failure
            self._witness.on_failed_start("init", failure)
            return EXIT_FAILED
        if self._stop_requested.is_set():
            return await self._shut_down(None)
        self.scope.open()
        self._witness.on_ready()
        run = self._start("run", self._context)
        await self._done_or_stop(run)
        if self._stop_requested.is_set():
            return await self._shut_down(run)
        return self._judge(run.task.result())

    async def _shut_down(self, run: _Call | None) -> int:
        """Call `shutdown` while `run` is still going, and see both end."""
        self._witness.on_stopping()
        shutdown = self._start("shutdown", self._left_s(self._times.cancel_s))
        calls = [shutdown] if run is None else [run, shutdown]
        await asyncio.wait({call.task for call in calls}, timeout=self._left_s(self._times.cancel_s))
        late = [call for call in calls if not call.task.done()]
        for call in late:
            if call.cancellable:
                self._complain(call, "; it is cancelled")
                call.task.cancel()
        if late:
            await asyncio.wait({call.task for call in late}, timeout=self._wait_s())
        code = 0
        for call in calls:
            if not call.task.done():
                self._complain(call)
                code = code or EXIT_FAILED
            elif call in self._killed or (call in late and call.cancellable):
                code = code or EXIT_FAILED
            else:
                code = code or self._judge(call.task.result())
        return code

    def _start(self, name: str, argument: object) -> _Call:
        """Call a method where the docstring of `duende.worker.daemon` says that it runs."""
        method = getattr(self._daemon, name)
        blocking = not iscoroutinefunction(method)
        inherited = getattr(type(self._daemon), name) is getattr(Daemon, name)  # does nothing: no need for a thread
        coroutine: Coroutine[Any, Any, Outcome]
        threaded = blocking and not inherited
        if name == "init":
            threaded = threaded and not iscoroutinefunction(self._daemon.run)
        if threaded:
            thread = self._shutdown_thread if name == "shutdown" else self._run_thread
            coroutine = thread.call(method, argument)
        else:
            coroutine = call_here(method, argument)
        call = _Call(name, asyncio.create_task(coroutine, name=f"duende {name}"), not threaded)
        self._calls.append(call)
        return call

    async def _done_or_stop(self, call: _Call) -> None:
        stop = asyncio.create_task(self._stop_requested.wait(), name="duende stop")
        await asyncio.wait({call.task, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()

    def _ask_to_stop(self, why: str) -> None:
        if not self._stop_why:
            self._stop_why = why
            self._stop_at_s = time.monotonic()
            self._stop_requested.set()

    def _left_s(self, total_s: float) -> float:
        if not self._stop_why:
            return total_s
        return max(self._stop_at_s + total_s - time.monotonic(), 0.0)

    def _wait_s(self) -> float | None:
        left_s = self.left_s()
        return None if left_s == math.inf else left_s

    def _judge(self, outcome: Outcome) -> int:
        self.error = self.error or outcome.error
        return judge(outcome)

    def _complain(self, call: _Call, consequence: str = "") -> None:
        waited_s = time.monotonic() - self._stop_at_s
        why = self._stop_why or "it was asked to"
        say(f"{self._daemon.name}: {call.name}() has not ended {waited_s:.1f} s after {why}{consequence}")


def say(text: str) -> None:
    """Write one line of our own to stderr, which is the daemon's log."""
    print(f"duende: {text}", file=sys.stderr, flush=True)


def judge(outcome: Outcome) -> int:
    """The exit code for what ended by itself; an exception's traceback goes to stderr."""
    error = outcome.error
    if error is None:
        return 0
    if isinstance(error, SystemExit):  # as sys.exit documents it
        if error.code is None or isinstance(error.code, int):
            return (error.code or 0) & 0xFF
        print(error.code, file=sys.stderr, flush=True)
        return EXIT_FAILED
    traceback.print_exception(error)
    sys.stderr.flush()
    return EXIT_FAILED


async def _let_signals_in() -> None:
    """Deliver what arrived while a blocking init held the loop: one turn reads the wake-up socket, one delivers."""
    for _ in range(3):  # and one for the chance of having been scheduled before the first
        await asyncio.sleep(0)
