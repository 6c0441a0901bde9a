"""A manager without processes and without waiting: a loop whose time jumps to the next deadline, and a platform of
values.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from duende.adapters.base import (
    Capabilities,
    EventSink,
    InstanceExited,
    InstanceKey,
    InstanceReport,
    PlatformAdapter,
    Probe,
    Spawned,
    Survey,
)
from duende.config.daemon import DaemonConfig, StackConfig
from duende.config.paths import StackPaths
from duende.errors import NotFound
from duende.model.exits import ExitInfo
from duende.model.handle import DaemonHandle
from duende.model.ids import DaemonId
from duende.model.platform import Platform
from duende.runtime.manager import DaemonManager


class _Jumping(selectors.DefaultSelector):
    """Never waits for a deadline: it jumps there."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> Any:
        if not timeout:
            return super().select(timeout)
        if ready := super().select(0):
            return ready
        if self.loop.in_threads:  # real work is under way: that is waited for in real time
            return super().select(None)
        self.loop.now_s += timeout
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its clock stands still while anything can be done, then jumps to what is due next."""

    def __init__(self) -> None:
        selector = _Jumping()
        selector.loop = self
        self.now_s = 1000.0
        self.in_threads = 0
        super().__init__(selector)

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        def done(_: object) -> None:
            self.in_threads -= 1

        self.in_threads += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(done)
        return future

    def time(self) -> float:
        return self.now_s


class LoopClock:
    """The clock of the code under test."""

    def boottime_s(self) -> float:
        return asyncio.get_running_loop().time()

    def monotonic_s(self) -> float:
        return self.boottime_s()

    def wall_s(self) -> float:
        return 1_790_000_000.0 + self.boottime_s()


def run_virtual(scene: Callable[[], Awaitable[None]]) -> None:
    """Run a scene in virtual time; ten virtual hours are enough for any."""

    async def main() -> None:
        async with asyncio.timeout(36_000):
            await scene()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())


class FakeAdapter(PlatformAdapter):
    """Instances that live in `world`, which outlives adapters as a keeper does."""

    platform = Platform.NATIVE
    capabilities = Capabilities(pause=True, signals=True)

    def __init__(self, world: World) -> None:
        self.world = world
        self.sink: EventSink = lambda event: None

    async def probe(self) -> Probe:
        return Probe(True)

    async def open(self, sink: EventSink) -> list[Survey]:
        self.sink = sink
        self.world.adapter = self
        self.world.did.append("open")
        for key, exit_info in list(self.world.exits.items()):
            sink(InstanceExited(key, exit_info))
        return [Survey(key, handle, {"awaits_ready": False}) for key, handle in self.world.instances.items()]

    async def close(self) -> None:
        self.sink = lambda event: None

    async def spawn(self, config: DaemonConfig, id: DaemonId, instance: int = 1) -> Spawned:
        key = InstanceKey(config.name, instance)
        self.world.did.append(f"spawn {key}")
        if self.world.on_spawn is not None:
            self.world.on_spawn(key)
        await asyncio.sleep(0)
        return Spawned(self.world.make(key, id), self.world.awaits_ready)

    async def signal(self, handle: DaemonHandle, signal: int, *, tree: bool = False) -> None:
        key = self._key(handle)
        self.world.did.append(f"signal {signal} {key}")
        if key.name not in self.world.stubborn:
            self.world.end(key, ExitInfo.from_signal(signal))

    async def status(self, handle: DaemonHandle) -> InstanceReport:
        return InstanceReport(handle in self.world.instances.values())

    async def kill(self, handle: DaemonHandle, *, leader_only: bool = False) -> None:
        key = self._key(handle)
        self.world.did.append(f"kill {key}")
        self.world.end(key, ExitInfo.from_signal(9))

    async def release(self, key: InstanceKey) -> None:
        self.world.did.append(f"release {key}")
        self.world.instances.pop(key, None)
        self.world.exits.pop(key, None)

    def _key(self, handle: DaemonHandle) -> InstanceKey:
        for key, known in self.world.instances.items():
            if known == handle and key not in self.world.exits:
                return key
        raise NotFound(f"{handle} has ended")


class World:
    """What exists, and what was done to it, in order."""

    def __init__(self) -> None:
        self.instances: dict[InstanceKey, DaemonHandle] = {}
        self.exits: dict[InstanceKey, ExitInfo] = {}
        self.did: list[str] = []
        self.awaits_ready = False
        self.stubborn: set[str] = set()  # daemons that ignore the stop signal
        self.on_spawn: Callable[[InstanceKey], None] | None = None
        self.adapter: FakeAdapter | None = None
        self.pids = iter(range(100, 10_000))

    def make(self, key: InstanceKey, id: DaemonId) -> DaemonHandle:
        if key not in self.instances:
            self.instances[key] = DaemonHandle.native(id, next(self.pids), start_ticks=1, boot_id="b", marker="m")
        return self.instances[key]

    def end(self, key: InstanceKey, exit_info: ExitInfo) -> None:
        self.exits[key] = exit_info
        if self.adapter is not None:
            self.adapter.sink(InstanceExited(key, exit_info))

    def living(self) -> list[str]:
        return sorted(str(key) for key in self.instances if key not in self.exits)


def stack_of(*configs: DaemonConfig) -> StackConfig:
    return StackConfig("t", {config.name: config for config in configs}, Path("/"))


def daemon(name: str = "a", **fields: Any) -> DaemonConfig:
    return DaemonConfig(name, command=("x",), **fields)


class Place:
    """Where managers of one stack come and go over one world."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world = World()
        self.paths = StackPaths("t", str(folder / "r"), str(folder / "s"))
        select = lambda platform, **options: FakeAdapter(self.world)  # noqa: E731
        monkeypatch.setattr("duende.runtime.manager.select_adapter", select)

    async def manager(self, *configs: DaemonConfig) -> DaemonManager:
        """A manager that has come up and done what it does at once."""
        made = DaemonManager(stack_of(*configs), paths=self.paths, clock=LoopClock())
        await made.open()
        await settle(made)
        return made

    async def crash(self, manager: DaemonManager) -> None:
        """The end of a killed manager: nothing more is decided, written or said."""
        manager._driver.stopped = True
        manager._store.flush = lambda **_: True  # type: ignore[method-assign]  # `close` would write what waits
        if self.world.adapter is not None:
            self.world.adapter.sink = lambda event: None
            self.world.adapter = None
        await manager.close()


async def settle(manager: DaemonManager) -> None:
    """Until nothing is queued and no effect is under way."""
    for _ in range(50):
        await manager._driver.idle.wait()
        await asyncio.sleep(0)


def events(manager: DaemonManager, kind: str = "") -> list[str]:
    return [one["message"] for one in manager.events.since(0, 10_000) if not kind or one["kind"] == kind]
