"""How a process ended whose parent was not (or is no longer) the keeper."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
from itertools import takewhile

from duende.errors import PlatformError
from duende.model.exits import ExitInfo
from duende.system.process import exit_status_of

__all__ = ["exit_of_orphan"]

# Whoever became its parent reaps it: an init at once, some programs that are PID 1 of a container every second or so.
_REAPED_WITHIN_S = 5.0


async def exit_of_orphan(pidfd: int, pid: int, *, at_s: float) -> ExitInfo:
    """Ask wait(2) first, since it may have fallen to us as subreaper; then the kernel; else say `unknown`.

    The kernel tells strangers only after the zombie has been reaped (PIDFD_GET_INFO, Linux 6.15), which a pidfd says by
    EPOLLHUP (Linux 6.9).
    """
    with contextlib.suppress(ChildProcessError):  # somebody else's child
        result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)  # noqa: ASYNC222 - it does not wait
        if result is not None:
            if result.si_code == os.CLD_EXITED:
                return ExitInfo.from_code(result.si_status, at_s=at_s)
            return ExitInfo.from_signal(result.si_status, core_dumped=result.si_code == os.CLD_DUMPED, at_s=at_s)
    if not _kernel_tells():
        why = f"Linux {os.uname().release} does not tell strangers (6.15 does)"
        return ExitInfo.unknown(f"pid {pid} ended while no keeper was its parent; how is not known: {why}", at_s=at_s)
    try:
        status = exit_status_of(pidfd)
        if status is None:
            await _reaped(pidfd)
            status = exit_status_of(pidfd)
    except PlatformError as error:
        return ExitInfo.unknown(f"pid {pid} ended while no keeper was its parent; how is not known: {error}", at_s=at_s)
    if status is None:
        why = f"its new parent has not reaped it within {_REAPED_WITHIN_S:g} s"
        return ExitInfo.unknown(f"pid {pid} ended while no keeper was its parent; how is not known: {why}", at_s=at_s)
    return status.to_exit_info(at_s=at_s)


def _kernel_tells() -> bool:
    major, minor = os.uname().release.split(".")[:2]
    return (int(major), int("".join(takewhile(str.isdigit, minor)) or 0)) >= (6, 15)


async def _reaped(pidfd: int) -> None:
    """Wait for EPOLLHUP, in an epoll of its own without other interests: readable it is already."""
    loop = asyncio.get_running_loop()
    happened = asyncio.Event()
    with select.epoll() as inner:
        inner.register(pidfd, 0)
        loop.add_reader(inner.fileno(), happened.set)
        try:
            async with asyncio.timeout(_REAPED_WITHIN_S):
                await happened.wait()
        except TimeoutError:
            return  # a parent that does not reap; the caller asks once more and then says so
        finally:
            loop.remove_reader(inner.fileno())
