"""What is known of one instance here, and how what it leaves behind is ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from duende.adapters.base import InstanceKey
from duende.adapters.native.control import ControlLine
from duende.adapters.native.tree import Tree
from duende.config.daemon import DaemonConfig
from duende.errors import PlatformError
from duende.model.exits import ExitInfo
from duende.model.handle import DaemonHandle

__all__ = ["Record", "end_tree", "left_behind", "oom_kills"]

# How long the rest of a tree may take to die after SIGKILL before its exit is reported with survivors. Processes in
# uninterruptible sleep (state D) may take for ever; the daemon must not.
_TREE_DEATH_S = 5.0
_ASKED_LOOK_S = 0.2  # that the time was taken away is no event of the cgroup
_TREE_LOOK_S = 0.01  # between looks where the kernel has no event for an empty tree (cgroup v1, no cgroup)


@dataclass(slots=True)
class Record:
    """`tree.leader`'s number is held as a zombie by its parent until `release`."""

    key: InstanceKey
    handle: DaemonHandle
    tree: Tree
    pidfd: int
    config: DaemonConfig | None  # None for one that an earlier manager started
    control: ControlLine | None = None
    orphan: bool = False
    is_paused: bool = False
    exit: ExitInfo | None = None
    ending: asyncio.Task[None] | None = None
    last_words: dict[str, Any] = field(default_factory=dict)
    asked_until_s: float = 0.0  # the whole tree was signalled to end, and has its time until then (time.monotonic)
    gaps: tuple[str, ...] = ()  # limits that are not enforced


def oom_kills(record: Record) -> int:
    """How often the kernel killed one of the tree for want of memory; 0 where nothing counts that."""
    if record.tree.cgroup is None:
        return 0
    try:
        return record.tree.cgroup.oom_kills() or 0
    except PlatformError:
        return 0  # the cgroup is gone


def left_behind(record: Record) -> bool:
    """Whether the tree lives on; True too where nobody can say (no descriptor is free): `_end_tree` looks again."""
    try:
        if record.tree.cgroup is not None:
            return not record.tree.cgroup.is_empty()
        return bool(record.tree.pids())
    except (PlatformError, OSError):
        return True


async def end_tree(record: Record, trouble: Callable[[str], None]) -> tuple[str, ...]:
    """Kill what the leader left behind and wait until it is gone; returns who is still there when time is up.

    A tree that was asked to end as a whole (kill mode control-group) has its time first; `kill` takes it away.
    """
    while time.monotonic() < record.asked_until_s and left_behind(record):
        await _change(record)
    deadline_s = time.monotonic() + _TREE_DEATH_S
    told = ""
    while time.monotonic() < deadline_s:
        try:
            if await _end_tree_once(record, deadline_s):
                return ()
        except (PlatformError, OSError) as error:
            if str(error) != told:
                told = str(error)
                trouble(f"cannot end what {record.key} left behind: {error}; it is tried again")
        await asyncio.sleep(_TREE_LOOK_S)
    try:
        return record.tree.survivors()
    except (PlatformError, OSError) as error:
        return (f"unknown ({error})",)


async def _change(record: Record) -> None:
    """Wait until its tree may have become empty, or a little."""
    watch = record.tree.cgroup.watch_empty() if record.tree.cgroup is not None else None
    if watch is None:
        await asyncio.sleep(_TREE_LOOK_S)
        return
    try:
        if watch.populated():
            await _readable(watch.fileno(), _ASKED_LOOK_S)
    finally:
        watch.close()


async def _end_tree_once(record: Record, deadline_s: float) -> bool:
    """SIGKILL to all, and wait for the kernel's word where it gives one; True when nothing is left."""
    watch = record.tree.cgroup.watch_empty() if record.tree.cgroup is not None else None
    try:
        killed = record.tree.kill()
        if watch is not None and killed:
            while watch.populated() and time.monotonic() < deadline_s:
                await _readable(watch.fileno(), deadline_s - time.monotonic())
        return not left_behind(record)
    finally:
        if watch is not None:
            watch.close()


async def _readable(fd: int, timeout_s: float) -> None:
    """Wait until `fd` is readable, at most `timeout_s`."""
    loop = asyncio.get_running_loop()
    event = asyncio.Event()
    loop.add_reader(fd, event.set)
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return  # the caller looks at the clock itself
    finally:
        loop.remove_reader(fd)
