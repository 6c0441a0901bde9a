"""Calls the methods of a daemon, be they `def` or `async def`, and brings back what came of it as a value.

A user's exception of any kind, SystemExit and CancelledError included, must end up in the host's judgement and not in
the event loop. So each call ends in an `Outcome`.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

__all__ = ["CallThread", "Outcome", "call_here"]

Method = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a method returned or raised."""

    value: object = None
    error: BaseException | None = None


class CallThread:
    """A thread that makes calls one after the other; it starts with the first, and never keeps the process alive."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._queue: SimpleQueue[tuple[Method, tuple[Any, ...], asyncio.Future[Outcome]] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    async def call(self, method: Method, *args: Any) -> Outcome:
        """Call in the thread; if that returns an awaitable after all (a decorated `async def`), await it here."""
        done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._queue.put((method, args, done))
        if self._thread is None:
            thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # "can't start new thread": a limit on processes or memory
                return Outcome(error=error)
            self._thread = thread
        outcome = await done
        return outcome if outcome.error is not None else await _resolve(outcome.value)

    def close(self) -> None:
        """Let the thread end when it has made the calls it was given."""
        self._queue.put(None)

    def _work(self) -> None:
        # Threads that the user's code starts from here inherit this flag, and should be ordinary ones. That this thread
        # itself does not keep the process alive was settled when it was started.
        threading.current_thread()._daemonic = False  # type: ignore[attr-defined]
        while (job := self._queue.get()) is not None:
            method, args, done = job
            try:
                outcome = Outcome(method(*args))
            except BaseException as error:  # noqa: BLE001  (the host judges it)
                outcome = Outcome(error=error)
            try:
                done.get_loop().call_soon_threadsafe(_settle, done, outcome)
            except RuntimeError:
                return  # the loop is closed: nobody waits for this answer any more


async def call_here(method: Method, *args: Any) -> Outcome:
    """Call on the loop's own thread and await the answer."""
    try:
        result = method(*args)
    except BaseException as error:  # noqa: BLE001  (the host judges it)
        return Outcome(error=error)
    return await _resolve(result)


async def _resolve(result: object) -> Outcome:
    try:
        if inspect.isawaitable(result):
            result = await result
        if inspect.isasyncgen(result) or inspect.isgenerator(result):
            raise TypeError(f"{result.__qualname__}() contains `yield`, so calling it runs nothing; remove the `yield`")
    except BaseException as error:  # noqa: BLE001  (the host judges it, CancelledError too: it knows whether it cancelled)
        return Outcome(error=error)
    return Outcome(result)


def _settle(done: asyncio.Future[Outcome], outcome: Outcome) -> None:
    if not done.done():
        done.set_result(outcome)
