"""How a process ended whose parent was not (or is no longer) the keeper."""

from __future__ import annotations

import os

from duende.errors import PlatformError
from duende.model.exits import ExitInfo
from duende.system.process import exit_status_of

__all__ = ["exit_of_stranger"]


def exit_of_stranger(pidfd: int, pid: int, *, at_s: float) -> ExitInfo:
    """Ask wait(2) first, since it may have fallen to us as subreaper; then the kernel (Linux 6.15); else say
    `unknown`.
    """
    try:
        result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        result = None  # somebody else's child
    if result is not None:
        if result.si_code == os.CLD_EXITED:
            return ExitInfo.from_code(result.si_status, at_s=at_s)
        return ExitInfo.from_signal(result.si_status, core_dumped=result.si_code == os.CLD_DUMPED, at_s=at_s)
    try:
        status = exit_status_of(pidfd)
    except PlatformError:
        status = None
    if status is not None:
        return status.to_exit_info(at_s=at_s)
    return ExitInfo.unknown(
        f"pid {pid} ended while the keeper was dead; this kernel does not tell strangers how (needs Linux 6.15)",
        at_s=at_s,
    )
