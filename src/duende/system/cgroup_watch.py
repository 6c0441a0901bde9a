"""Waiting for a v2 cgroup to become empty, in a form an event loop can use.

`cgroup.events` is always readable and signals a change by POLLPRI, which asyncio and selectors can't ask for. An epoll
descriptor that watches it for POLLPRI alone is readable exactly when there is news.
"""

from __future__ import annotations

import errno
import os
import select
import sys
from typing import Any

from duende.errors import NotSupported
from duende.system.cgroup_files import flat_keyed
from duende.system.failure import translate

__all__ = ["EmptyWatch"]


class EmptyWatch:
    """Owns a descriptor of `cgroup.events`. Ask `populated()` before waiting and after each wake-up; then `close()`."""

    __slots__ = ("_epoll", "_events_fd")

    def __init__(self, events_fd: int) -> None:
        self._events_fd = events_fd
        try:
            self._epoll = _epoll_for_news(events_fd)
        except OSError as error:
            os.close(events_fd)
            raise translate(error, "watch cgroup.events") from error

    def fileno(self) -> int:
        """The descriptor to wait on for readability."""
        number: int = self._epoll.fileno()
        return number

    def populated(self) -> bool:
        """Read the present state, and arm for the next change. False also once the cgroup is removed."""
        try:
            data = os.pread(self._events_fd, 4096, 0)
        except OSError as error:
            if error.errno == errno.ENODEV:
                return False
            raise translate(error, "read cgroup.events") from error
        return flat_keyed(data.decode()).get("populated") == 1

    def close(self) -> None:
        """Give the descriptors back; a second time does nothing."""
        if not self._epoll.closed:
            self._epoll.close()
            os.close(self._events_fd)


if sys.platform == "linux":

    def _epoll_for_news(events_fd: int) -> select.epoll:
        epoll = select.epoll()
        epoll.register(events_fd, select.EPOLLPRI)
        return epoll

else:

    def _epoll_for_news(events_fd: int) -> Any:
        raise NotSupported(sys.platform, "watching a cgroup")
