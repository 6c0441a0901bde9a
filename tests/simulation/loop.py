"""An event loop without descriptors and without waiting: its clock is the world's, and the world moves it.

While the manager has something to do, each turn costs it a few microseconds of the world's time; while it has nothing
to do, the world's next event or the loop's next deadline comes, whichever is first. So everything that happens outside
may fall between any two turns, and a seed decides where.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

__all__ = ["SimLoop"]


class SimLoop(asyncio.BaseEventLoop):
    """`pass_time(timeout_s)` is called where another loop would wait: 0 is «there is work», None «no deadline»."""

    def __init__(self, now_s: Callable[[], float], pass_time: Callable[[float | None], None]) -> None:
        super().__init__()
        self._now_s = now_s
        self._pass_time = pass_time
        self._selector = self

    def time(self) -> float:
        return self._now_s()

    def select(self, timeout_s: float | None) -> list[Any]:
        """What BaseEventLoop asks its selector."""
        self._pass_time(timeout_s)
        return []

    def _process_events(self, event_list: list[Any]) -> None:
        assert not event_list

    def _write_to_self(self) -> None:
        """There is only one thread, and it is awake."""

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """At once, and in this thread: what a thread does takes no time here."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - it goes to whoever awaits it
            future.set_exception(error)
        return future
