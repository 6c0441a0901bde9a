"""Instances whose parent is no longer the keeper: how they fare, and how they ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import time
from collections.abc import Callable
from itertools import takewhile
from typing import Any

from duende.adapters.base import EventSink, InstanceContinued, InstancePaused
from duende.adapters.native.record import Record
from duende.errors import PlatformError
from duende.model.exits import ExitInfo
from duende.system import procfs
from duende.system.process import exit_status_of

__all__ = ["Orphans", "exit_of_orphan"]

_LOOK_S = 1.0  # between looks whether one was stopped or goes on

# Whoever became its parent reaps it: an init at once, some programs that are PID 1 of a container every second or so.
_REAPED_WITHIN_S = 5.0


class Orphans:
    """Watches them. `ended(record, exit)` is told of an end, `sink` of SIGSTOP and SIGCONT. The kernel tells nobody of
    these but the parent: so they are looked for, as long as there are orphans.
    """

    def __init__(
        self, own: Callable[[Any], object], ended: Callable[[Record, ExitInfo], None], sink: EventSink
    ) -> None:
        self._own = own
        self._ended = ended
        self._sink = sink
        self._records: list[Record] = []
        self._next_look: asyncio.TimerHandle | None = None

    def watch(self, record: Record) -> None:
        """Its keeper is gone."""
        record.orphan = True
        self._records.append(record)
        asyncio.get_running_loop().add_reader(record.pidfd, self._over, record)
        self._look()

    def leave(self, record: Record) -> None:
        """Its keeper was only out of reach, or it is released."""
        if record in self._records:
            self._records.remove(record)
            asyncio.get_running_loop().remove_reader(record.pidfd)
            record.orphan = False

    def close(self) -> None:
        """Stop looking; the readers end with their pidfds."""
        if self._next_look is not None:
            self._next_look.cancel()
        self._records.clear()

    def _over(self, record: Record) -> None:
        async def finish() -> None:
            self._ended(record, await exit_of_orphan(record.pidfd, record.tree.leader, at_s=time.time()))

        self._records.remove(record)
        asyncio.get_running_loop().remove_reader(record.pidfd)
        self._own(finish())

    def _look(self) -> None:
        if self._next_look is not None:
            self._next_look.cancel()
            self._next_look = None
        for record in self._records:
            stat = procfs.stat(record.tree.leader)
            is_paused = stat is not None and stat.state in "Tt"
            if is_paused is not record.is_paused:
                record.is_paused = is_paused
                self._sink(InstancePaused(record.key) if is_paused else InstanceContinued(record.key))
        if self._records:
            self._next_look = asyncio.get_running_loop().call_later(_LOOK_S, self._look)


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
