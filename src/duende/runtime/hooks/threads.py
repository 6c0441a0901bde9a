"""Calls that may block for long, each in a thread that holds up nobody: not the loop, not other calls, not the end of
the process, which the loop's own executor would.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

__all__ = ["in_thread"]

T = TypeVar("T")


def in_thread(call: Callable[[], T], name: str) -> asyncio.Future[T]:
    """Run it in a thread of its own. Whoever stops waiting leaves the thread behind: the caller bounds their number."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(act: Callable[[], None]) -> None:
        if not future.done():
            act()

    def post(act: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the manager has ended, and nobody waits
            loop.call_soon_threadsafe(settle, act)

    def run() -> None:
        try:
            result = call()
        except StopIteration as error:  # a future can't hold it
            failed = RuntimeError(f"raised StopIteration: {error}")
            post(lambda: future.set_exception(failed))
        except BaseException as error:  # noqa: BLE001 - it is the waiter's
            caught = error
            post(lambda: future.set_exception(caught))
        else:
            post(lambda: future.set_result(result))

    threading.Thread(target=run, name=name, daemon=True).start()
    return future
