"""How long does a Python-class daemon take from `spawn` to ready, and how much memory has each of many?

One after the other through the native adapter, without a manager; beside it a command and a new interpreter.

    python -m bench.start_class [--quick | --full]
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bench import class_daemon
from bench.figures import Figure, Options, run
from bench.processes import minor_faults, pss_bytes
from duende.adapters.base import AdapterEvent, InstanceExited, InstanceReady
from duende.adapters.native.adapter import NativeAdapter
from duende.config.daemon import DaemonConfig
from duende.model.handle import DaemonHandle
from duende.model.ids import DaemonId

__all__ = ["measure"]

_CLASS = f"{Path(class_daemon.__file__).resolve()}:Smallest"


class _Bed:
    """An adapter and what it says."""

    def __init__(self, adapter: NativeAdapter) -> None:
        self.adapter = adapter
        self.events: asyncio.Queue[tuple[float, AdapterEvent]] = asyncio.Queue()

    async def until(self, kind: type[AdapterEvent]) -> tuple[float, AdapterEvent]:
        """The next event of that kind, and when it came."""
        while True:
            at_s, event = await asyncio.wait_for(self.events.get(), 30.0)
            if isinstance(event, kind):
                return at_s, event

    async def end(self, handle: DaemonHandle) -> None:
        """Kill an instance and let go of it."""
        await self.adapter.kill(handle)
        _, event = await self.until(InstanceExited)
        assert isinstance(event, InstanceExited)
        await self.adapter.release(event.key)


@asynccontextmanager
async def _adapter() -> AsyncIterator[_Bed]:
    adapter = NativeAdapter()
    bed = _Bed(adapter)
    await adapter.open(lambda event: bed.events.put_nowait((time.monotonic(), event)))
    try:
        yield bed
    finally:
        await adapter.close()


async def _times_ms(config: DaemonConfig, count: int, waits_for_ready: bool) -> list[float]:
    times: list[float] = []
    async with _adapter() as bed:
        for instance in range(1, count + 2):
            start_s = time.monotonic()
            spawned = await bed.adapter.spawn(config, DaemonId.new(), instance)
            end_s = (await bed.until(InstanceReady))[0] if waits_for_ready else time.monotonic()
            if instance > 1:  # the first one also starts the zygote
                times.append((end_s - start_s) * 1000)
            await bed.end(spawned.handle)
    return times


async def _memory(count: int) -> tuple[list[float], list[float]]:
    """PSS of each in MiB while all of them run, and the page faults it had until ready."""
    async with _adapter() as bed:
        handles = []
        faults: list[float] = []
        for number in range(count):
            config = DaemonConfig(f"d{number}", daemon=_CLASS)
            handles.append((await bed.adapter.spawn(config, DaemonId.new(), 1)).handle)
            await bed.until(InstanceReady)
            faults.append(minor_faults(handles[-1].pid or 0))
        sizes = [pss_bytes(handle.pid or 0) / 2**20 for handle in handles]
        for handle in handles:
            await bed.end(handle)
    return sizes, faults


def _run_ms(argv: list[str], count: int) -> list[float]:
    times = []
    for _ in range(count):
        start_s = time.perf_counter()
        subprocess.run(argv, check=True)
        times.append((time.perf_counter() - start_s) * 1000)
    return times


def measure(options: Options) -> list[Figure]:
    """Starts of a class, of a command, of interpreters; memory of many."""
    starts, many = options.pick(50, 1000, 5000), options.pick(20, 100, 1000)
    by_class = asyncio.run(_times_ms(DaemonConfig("one", daemon=_CLASS), starts, True))
    by_command = asyncio.run(_times_ms(DaemonConfig("one", command=("sleep", "1000000")), starts, False))
    sizes, faults = asyncio.run(_memory(many))
    few = max(starts // 20, 10)
    return [
        Figure("start to ready, Python class", "duende", "ms", tuple(by_class), "p99 < 100 ms, median < 5 ms"),
        Figure("start to executed, command", "duende", "ms", tuple(by_command)),
        Figure("fork, exec and wait for `true`", "subprocess", "ms", tuple(_run_ms(["true"], few * 5))),
        Figure(
            "a new interpreter and back", "python -c pass", "ms", tuple(_run_ms([sys.executable, "-c", "pass"], few))
        ),
        Figure(
            "the same, with asyncio", "python -c", "ms", tuple(_run_ms([sys.executable, "-c", "import asyncio"], few))
        ),
        Figure(f"PSS of each of {many}, Python class", "duende", "MiB", tuple(sizes), "< 3 MiB"),
        Figure("page faults until ready, Python class", "duende", "", tuple(faults)),
    ]


if __name__ == "__main__":
    run("How long does a Python-class daemon take from spawn to ready?", measure)
