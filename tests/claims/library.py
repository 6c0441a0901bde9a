"""A manager inside the test's process, for claims about the manager itself: no CLI or socket is in between."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

from duende.config.load import load_stack
from duende.config.paths import StackPaths
from duende.config.replicas import expand_replicas
from duende.runtime.driver import Slot
from duende.runtime.manager import DaemonManager
from tests.harness import PATIENCE_S, Stack


class Library:
    """Makes managers in the folders of a stack."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack

    @contextlib.asynccontextmanager
    async def managing(self, toml: str) -> AsyncIterator[DaemonManager]:
        """A manager of `toml`; on the way out everything is stopped."""
        stack = self.stack
        config = expand_replicas(load_stack(stack.write(toml)))
        paths = StackPaths(stack.name, str(stack.runtime / stack.name), str(stack.state / stack.name))
        async with DaemonManager(config, paths=paths) as manager:
            try:
                yield manager
            finally:
                await manager.shutdown()


async def until(slot: Slot, condition: Callable[[Slot], Any], patience_s: float = PATIENCE_S) -> None:
    """Wait for a slot's change, by its own event."""
    async with asyncio.timeout(patience_s):
        while not condition(slot):
            await slot.changed.wait()


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest of the values that at least `share` of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(math.ceil(len(ordered) * share), 1) - 1]


def is_alive(pid: int) -> bool:
    """Whether there is such a process and it is no zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except (FileNotFoundError, ProcessLookupError):
        return False
