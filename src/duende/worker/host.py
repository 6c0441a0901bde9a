"""Leads one daemon through its life on the event loop of the main thread: init, ready, run, shutdown.

The order and the promises are those of the docstring of `duende.worker.daemon`. A stop has two deadlines: when the
time given to `shutdown` has passed, coroutines that are still going are cancelled; a moment later the host gives up.
Both lie before the manager's own deadline, so that the last word is ours, and names the method that did not end.
"""

from __future__ import annotations

import asyncio
import sys
import time
import traceback
from collections.abc import Coroutine
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import Any

from duende.model.signals import Signal
from duende.worker.answers import Answers
from duende.worker.calls import CallThread, Outcome, call_here
from duende.worker.context import STOPPING_SIGNALS, DaemonContext
from duende.worker.control import Control
from duende.worker.daemon import Daemon

__all__ = ["EXIT_FAILED", "EXIT_PERMANENT", "Host", "StopTimes", "report_failure", "say"]

EXIT_FAILED = 1
EXIT_PERMANENT = 125  # no retry can mend it; the manager's default of `permanent_exit_codes`

# A control message is one packet; JSON may write one character in six bytes.
_ERROR_MAX_CHARS = 1000
_TRACEBACK_HALF_CHARS = 4000


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


@dataclass(frozen=True, slots=True)
class _Call:
    name: str
    task: asyncio.Task[Outcome]
    cancellable: bool


class Host:
    """One daemon's life. `deliver` takes the signals; `live` returns the exit code."""

    def __init__(self, daemon: Daemon, context: DaemonContext, control: Control, times: StopTimes) -> None:
        self._daemon = daemon
        self._context = context
        self._control = control
        self._times = times
        self._answers = Answers(daemon, control)
        self._stop_signal: Signal | None = None
        self._stop_requested = asyncio.Event()
        self._stop_at_s = 0.0
        self._run_thread = CallThread("duende-run")
        self._shutdown_thread = CallThread("duende-shutdown")

    def deliver(self, signal: Signal) -> None:
        """Hand a signal to the daemon; the first that asks to stop starts the shutdown. On the loop's thread only."""
        self._context.deliver(signal)
        if signal in STOPPING_SIGNALS and self._stop_signal is None:
            self._stop_signal = signal
            self._stop_at_s = time.monotonic()
            self._stop_requested.set()

    def left_s(self) -> float:
        """Seconds until the process must be gone; the whole time for it while nobody has asked to stop."""
        return self._left_s(self._times.total_s)

    async def live(self) -> int:
        """Init, run, shutdown; return the exit code. What the daemon leaves behind on the loop is cancelled."""
        self._control.listen(asyncio.get_running_loop(), self._answers.on_request)
        try:
            code = await self._live()
        finally:
            self._answers.close()
            self._run_thread.close()
            self._shutdown_thread.close()
        return max(code, await self._cancel_leftovers())

    async def _live(self) -> int:
        init = self._start("init", self._context.config)
        await self._done_or_stop(init)
        await _let_signals_in()
        if not init.task.done():
            if init.cancellable:
                init.task.cancel()
            await asyncio.wait({init.task}, timeout=self.left_s())
            if not init.task.done():
                self._complain(init)
                return EXIT_FAILED
        error = init.task.result().error
        if isinstance(error, asyncio.CancelledError) and self._stop_requested.is_set():
            return 0  # it was asked to stop before it was ready, and did
        if error is not None:
            report_failure(self._control, "init", error)
            return EXIT_FAILED
        if self._stop_requested.is_set():
            return await self._shut_down(None)
        self._answers.ready = True
        self._control.tell({"ev": "ready"})
        run = self._start("run", self._context)
        await self._done_or_stop(run)
        if self._stop_requested.is_set():
            return await self._shut_down(run)
        return _judge(run.task.result())

    async def _shut_down(self, run: _Call | None) -> int:
        """Call `shutdown` while `run` is still going, and see both end."""
        self._control.tell({"ev": "stopping"})
        shutdown = self._start("shutdown", self._left_s(self._times.cancel_s))
        calls = [shutdown] if run is None else [run, shutdown]
        await asyncio.wait({call.task for call in calls}, timeout=self._left_s(self._times.cancel_s))
        late = [call for call in calls if not call.task.done()]
        for call in late:
            if call.cancellable:
                self._complain(call, "; it is cancelled")
                call.task.cancel()
        if late:
            await asyncio.wait({call.task for call in late}, timeout=self.left_s())
        code = 0
        for call in calls:
            if not call.task.done():
                self._complain(call)
                code = code or EXIT_FAILED
            elif call in late and call.cancellable:
                code = code or EXIT_FAILED
            else:
                code = code or _judge(call.task.result())
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
        return _Call(name, asyncio.create_task(coroutine, name=f"duende {name}"), not threaded)

    async def _done_or_stop(self, call: _Call) -> None:
        stop = asyncio.create_task(self._stop_requested.wait(), name="duende stop")
        await asyncio.wait({call.task, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()

    async def _cancel_leftovers(self) -> int:
        """Cancel the tasks that the daemon started and did not await; 1 if some do not end."""
        present = asyncio.current_task()
        tasks = {task for task in asyncio.all_tasks() if task is not present}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=self.left_s())
        stubborn = sorted(task.get_name() for task in tasks if not task.done() and not _is_ours(task))
        if stubborn:
            say(f"{self._daemon.name}: tasks that did not end when cancelled: {', '.join(stubborn)}")
        return EXIT_FAILED if stubborn else 0

    def _left_s(self, total_s: float) -> float:
        if self._stop_signal is None:
            return total_s
        return max(self._stop_at_s + total_s - time.monotonic(), 0.0)

    def _complain(self, call: _Call, consequence: str = "") -> None:
        assert self._stop_signal is not None
        waited_s = time.monotonic() - self._stop_at_s
        signal = self._stop_signal.full_name
        say(f"{self._daemon.name}: {call.name}() has not ended {waited_s:.1f} s after {signal}{consequence}")


def report_failure(control: Control, stage: str, error: BaseException) -> None:
    """Tell the manager that the start has failed, and write the traceback to stderr, which is the log."""
    text = "".join(traceback.format_exception(error))
    control.tell(_failure_message(stage, error, text))  # first: the log may have no room for a giant one just now
    print(text, end="", file=sys.stderr, flush=True)


def _failure_message(stage: str, error: BaseException, text: str) -> dict[str, Any]:
    if len(text) > 2 * _TRACEBACK_HALF_CHARS:
        text = f"{text[:_TRACEBACK_HALF_CHARS]}\n[…]\n{text[-_TRACEBACK_HALF_CHARS:]}"
    summary = str(error) if stage == "load" else f"{type(error).__name__}: {error}"
    return {"ev": "failed", "stage": stage, "error": summary[:_ERROR_MAX_CHARS], "traceback": text}


def say(text: str) -> None:
    """Write one line of our own to stderr, which is the daemon's log."""
    print(f"duende: {text}", file=sys.stderr, flush=True)


def _judge(outcome: Outcome) -> int:
    """The exit code for a method that ended by itself; an exception's traceback goes to stderr."""
    error = outcome.error
    if error is None:
        return 0
    if isinstance(error, SystemExit):  # as sys.exit documents it
        if error.code is None or isinstance(error.code, int):
            return (error.code or 0) & 0xFF
        print(error.code, file=sys.stderr, flush=True)
        return EXIT_FAILED
    traceback.print_exception(error)
    return EXIT_FAILED


async def _let_signals_in() -> None:
    """Deliver what arrived while a blocking init held the loop: one turn reads the wake-up socket, one delivers."""
    for _ in range(3):  # and one for the chance of having been scheduled before the first
        await asyncio.sleep(0)


def _is_ours(task: asyncio.Task[Any]) -> bool:
    """Whether it is one of the host's calls, of which has been complained already."""
    return task.get_name().startswith("duende ")
