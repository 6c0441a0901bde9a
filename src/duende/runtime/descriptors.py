"""The alert when this process has no file descriptor left, taken from the event loop's own complaints.

asyncio reports a failed accept(2) for every connection that waits, a hundred times a second; this makes one alert of
them, and says when it is over.
"""

from __future__ import annotations

import asyncio
import errno
import resource
from collections.abc import Callable
from typing import Any

__all__ = ["DescriptorAlert"]

_QUIET_S = 3.0  # asyncio tries to accept again every second (ACCEPT_RETRY_DELAY, asyncio/constants.py)


class DescriptorAlert:
    """`tell(kind, text)` gets `alert` and `alert-cleared`. For the loop of a manager that owns its process."""

    def __init__(self, tell: Callable[[str, str], None]) -> None:
        self._tell = tell
        self._over: asyncio.TimerHandle | None = None

    def install(self) -> None:
        """Listen to the running loop's complaints; all but these go where they went before."""
        asyncio.get_running_loop().set_exception_handler(self._on_complaint)

    def remove(self) -> None:
        """Listen no more."""
        asyncio.get_running_loop().set_exception_handler(None)
        if self._over is not None:
            self._over.cancel()

    def _on_complaint(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not isinstance(error, OSError) or error.errno not in (errno.EMFILE, errno.ENFILE):
            loop.default_exception_handler(context)
            return
        if self._over is None:
            limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            where = f"this manager may have {limit}" if error.errno == errno.EMFILE else "the whole machine has no more"
            self._tell("alert", f"out of file descriptors ({error.strerror}; {where}): {context.get('message', '')}")
        else:
            self._over.cancel()
        self._over = loop.call_later(_QUIET_S, self._is_over)

    def _is_over(self) -> None:
        self._over = None
        self._tell("alert-cleared", "there are file descriptors again")
