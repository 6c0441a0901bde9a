"""What a daemon has begun by its context: tasks and children. Every one has this owner, which sees it end.

A task belongs to the daemon from `ctx.task` on. One that fails ends the daemon, unless it was begun with
`on_error="log"`. When the daemon ends, tasks are cancelled all at once and awaited; a `def` in a thread can't be
cancelled and has to look at `ctx.should_shutdown`. Then the children are stopped, the youngest first.
"""

from __future__ import annotations

import asyncio
import inspect
import math
import threading
import traceback
from collections.abc import Callable, Coroutine
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any

from duende.worker.calls import CallThread, Outcome, call_here

if TYPE_CHECKING:
    from duende.worker.children import Supervisor
    from duende.worker.context import DaemonContext

__all__ = ["OwnedTask", "Scope"]

_TASKS_MAX = 10_000  # far more than one loop serves well; a leak of tasks must end before the memory does
_NAMES_MAX = 100  # that metrics tell; one answer has to fit into a packet of the control socket


class OwnedTask:
    """A task of a daemon; made by `ctx.task`. All may be used from any thread."""

    def __init__(self, name: str, context: DaemonContext) -> None:
        self.name = name
        self.error: BaseException | None = None  # what has ended it
        self._context = context
        self._is_done = False
        self._cancelled = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._inner: asyncio.Task[None] | None = None

    @property
    def done(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self._is_done

    def cancel(self) -> None:
        """Ask it to end: a coroutine gets CancelledError; a `def` in a thread goes on until it returns."""
        self._cancelled = True
        if self._loop is not None and self._inner is not None and not self._is_done:
            self._loop.call_soon_threadsafe(self._inner.cancel)

    def wait(self, timeout: float | None = None) -> Any:
        """Wait for its end (await it in a coroutine); False when `timeout` seconds have passed before."""
        return self._context.wait_until(lambda: self._is_done, timeout)

    def __repr__(self) -> str:
        return f"<OwnedTask {self.name} {'done' if self._is_done else 'running'}>"


class Scope:
    """The tasks and children of one daemon. `fail` is called with what has failed and its error."""

    def __init__(self, name: str, context: DaemonContext, fail: Callable[[str, BaseException], None]) -> None:
        self.name = name
        self.note = ""  # of the host, in front of the summary
        self.on_change: Callable[[str, dict[str, Any]], None] = _ignore
        self.tasks_failed = 0
        self._context = context
        self._fail = fail
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closing = False
        self._tasks: dict[str, OwnedTask] = {}
        self._tasks_begun = 0
        self._threads: dict[str, CallThread] = {}
        self._supervisor: Supervisor | None = None
        context.attach(self)

    @property
    def is_unused(self) -> bool:
        """Whether nothing was ever begun: then there is nothing to close."""
        return self._tasks_begun == 0 and self._supervisor is None

    def open(self) -> None:
        """From now on tasks and children can be begun; on the loop's thread."""
        self._loop = asyncio.get_running_loop()

    @property
    def supervisor(self) -> Supervisor:
        """Of the children; made with the first."""
        from duende.worker.children import Supervisor  # here: most daemons have none

        loop = self._open_loop("a child")
        with self._lock:
            if self._supervisor is None:
                self._supervisor = Supervisor(self.name, self._context, loop, self._fail, self._changed)
            return self._supervisor

    def task(self, work: Any, args: tuple[Any, ...], name: str | None, on_error: str) -> OwnedTask:
        """See `DaemonContext.task`."""
        is_coroutine = inspect.iscoroutine(work)
        if on_error not in ("end", "log"):
            raise ValueError(f'ctx.task: on_error is "end" or "log", not {on_error!r}')
        if not callable(work) and not is_coroutine:
            raise TypeError(f"ctx.task needs a coroutine or something to call, not {work!r}")
        if is_coroutine and args:
            raise TypeError("ctx.task: arguments go into the call that makes the coroutine")
        try:
            loop = self._open_loop("a task")
            task = self._enter(name, work)
        except BaseException:
            if is_coroutine:
                work.close()  # else Python warns that it was never awaited, which is beside the point
            raise
        self._on_loop(loop, lambda: self._begin(task, work, args, on_error))
        return task

    def seal(self) -> None:
        """From now on nothing can be begun."""
        with self._lock:
            self._is_closing = True

    async def close(self, cancel_s: float, total_s: float) -> list[str]:
        """End everything, sealed before: cancel tasks, stop children, the youngest first. Return what has not ended."""
        loop = asyncio.get_running_loop()
        give_up_s, children_s = loop.time() + total_s, loop.time() + cancel_s
        with self._lock:
            tasks = list(self._tasks.values())
        for task in reversed(tasks):
            task.cancel()
        await self._tasks_ended((give_up_s if self._supervisor is None else children_s) - loop.time())
        children = await self._supervisor.close(children_s, give_up_s) if self._supervisor else []
        await self._tasks_ended(give_up_s - loop.time())
        late = [f"task {task.name}" for task in tasks if not task.done] + [f"child {name}" for name in children]
        if late:
            from duende.worker.life import say  # here: it imports this module

            say(f"{self.name}: not ended in time: {', '.join(late)}")
        return late

    def summary(self) -> str:
        """How tasks and children are, in one line; empty when there is nothing to say."""
        children = self._supervisor.summary() if self._supervisor else ""
        tasks = f"{self.tasks_failed} tasks have failed" if self.tasks_failed else ""
        return "; ".join(part for part in (self.note, children, tasks) if part)

    async def unhealthy(self) -> str:
        """The first reason among the children not to be well; empty when all are."""
        return await self._supervisor.unhealthy() if self._supervisor else ""

    def metrics(self) -> dict[str, Any]:
        """What is added to the daemon's own metrics."""
        found: dict[str, Any] = {}
        if self._tasks_begun:
            with self._lock:
                names = [name for name, task in self._tasks.items() if not task.done]
            found["tasks_running"] = len(names)
            found["tasks_begun_total"] = self._tasks_begun
            found["tasks_failed_total"] = self.tasks_failed
            found["tasks"] = names[:_NAMES_MAX]
        if self._supervisor is not None:
            found["children"] = self._supervisor.describe()
        return found

    async def _tasks_ended(self, within_s: float) -> None:
        limit_s = None if within_s == math.inf else max(within_s, 0.0)
        await self._context.wait_until(lambda: not self._tasks, limit_s)

    def _open_loop(self, what: str) -> asyncio.AbstractEventLoop:
        if self._is_closing:
            raise RuntimeError(f"{self.name} is ending: {what} can't be begun any more")
        if self._loop is None:
            raise RuntimeError(f"{what} can be begun from `run` on, not in `init`")
        return self._loop

    def _enter(self, name: str | None, work: Any) -> OwnedTask:
        base = name or getattr(work, "__qualname__", type(work).__name__).rpartition(".")[2]
        with self._lock:
            if self._is_closing:
                raise RuntimeError(f"{self.name} is ending: a task can't be begun any more")
            if len(self._tasks) >= _TASKS_MAX:
                raise RuntimeError(f"{self.name} has {_TASKS_MAX} tasks under way; one more is not begun")
            if name is not None and name in self._tasks:
                raise ValueError(f"{self.name} has a task {name!r} under way; names are unique")
            self._tasks_begun += 1
            unique = base
            if unique in self._tasks:
                unique = f"{base}-{self._tasks_begun}"  # the number of all that were ever begun: no other has it
            task = self._tasks[unique] = OwnedTask(unique, self._context)
        return task

    def _begin(self, task: OwnedTask, work: Any, args: tuple[Any, ...], on_error: str) -> None:
        assert self._loop is not None
        if inspect.iscoroutine(work):
            call: Coroutine[Any, Any, Outcome] = call_here(lambda: work)
        elif iscoroutinefunction(work):
            call = call_here(work, *args)
        else:
            thread = self._threads[task.name] = CallThread(f"duende-task-{task.name}")
            call = _uncancellable(thread.call(work, *args))
        task._loop = self._loop
        task._inner = self._loop.create_task(self._see_through(task, call, on_error), name=f"duende task {task.name}")
        if task._cancelled:
            self._loop.call_soon(task._inner.cancel)  # after its first step: what never began could not be seen to end

    async def _see_through(self, task: OwnedTask, call: Coroutine[Any, Any, Outcome], on_error: str) -> None:
        outcome = Outcome()
        try:
            outcome = await call
        except asyncio.CancelledError as error:
            outcome = Outcome(error=error)  # of the wait for a thread, at the very end of the process
        finally:
            if (thread := self._threads.pop(task.name, None)) is not None:
                thread.close()
            with self._lock:
                del self._tasks[task.name]
            task.error = outcome.error
            task._is_done = True
            self._context.notify()
        if outcome.error is None or (isinstance(outcome.error, asyncio.CancelledError) and task._cancelled):
            return
        self.tasks_failed += 1
        if on_error == "log":
            traceback.print_exception(outcome.error)
            self._changed()
        else:
            self._fail(f"task {task.name}", outcome.error)

    def _changed(self) -> None:
        details = {"children": self._supervisor.describe()} if self._supervisor else {}
        self.on_change(self.summary(), details)

    def _on_loop(self, loop: asyncio.AbstractEventLoop, act: Callable[[], None]) -> None:
        """Now if this is the loop's thread, else as soon as it gets there."""
        if threading.current_thread() is threading.main_thread():
            act()
        else:
            loop.call_soon_threadsafe(act)


async def _uncancellable(call: Coroutine[Any, Any, Outcome]) -> Outcome:
    """A thread can't be cancelled, so neither is the wait for it."""
    inner = asyncio.create_task(call, name="duende task thread")
    while not inner.done():
        try:
            await asyncio.shield(inner)
        except asyncio.CancelledError:
            continue  # asked to end: it has been told by `ctx.should_shutdown`
    return inner.result()


def _ignore(_text: str, _details: dict[str, Any]) -> None:
    """Nobody is told: a child's own scope, a daemon without a manager."""
