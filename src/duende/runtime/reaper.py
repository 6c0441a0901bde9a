"""No zombies: a manager is a child subreaper, and may be PID 1 of a container, so strangers become its children.

Only zombies that nobody here waits for are reaped: the keeper, the commands of probes and instances that fell to us
have their own waiters, who would miss their exit status.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Container

from duende.system import procfs
from duende.system.process import set_child_subreaper

__all__ = ["Reaper"]


class Reaper:
    """Installed for the life of a manager that owns its process. `protected` says whose children are spoken for."""

    def __init__(self, protected: Callable[[], Container[int]]) -> None:
        self._protected = protected

    def install(self) -> None:
        """Become a subreaper and reap on SIGCHLD."""
        set_child_subreaper()
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self.reap)

    def remove(self) -> None:
        """Stop reaping."""
        asyncio.get_running_loop().remove_signal_handler(signal.SIGCHLD)

    def reap(self) -> None:
        """Look at each child that is a zombie."""
        protected = self._protected()
        if 0 in protected:
            return  # somebody is between fork and knowing the child's id; its end brings the next SIGCHLD
        for pid in procfs.children(os.getpid()):
            if pid in protected:
                continue
            stat = procfs.stat(pid)
            if stat is not None and stat.state == "Z":
                os.waitpid(pid, os.WNOHANG)
