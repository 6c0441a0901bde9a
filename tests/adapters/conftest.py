"""A native adapter as a library, in its own folder; whatever it started is ended with the test."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from duende.adapters.base import AdapterEvent, AdapterTrouble, InstanceExited, InstanceKey, Spawned
from duende.adapters.native.adapter import NativeAdapter
from duende.adapters.native.tree import marker_of
from duende.config.daemon import DaemonConfig
from duende.errors import PlatformError
from duende.model.ids import DaemonId
from duende.system.cgroup import CgroupBase
from tests.harness import remove_cgroups

PATIENCE_S = 20.0


class Bench:
    """One adapter and what it said. `base`: which cgroups it uses ("detect", None, or a CgroupBase)."""

    def __init__(self, directory: Path, base: CgroupBase | str | None = "detect") -> None:
        self.directory = directory
        self.base = base
        self.stack = f"t{os.getpid()}-{directory.name[-6:]}"
        self.events: list[AdapterEvent] = []
        self.news = asyncio.Event()
        self.ids: dict[str, DaemonId] = {}
        self.adapter = self.new_adapter()

    def new_adapter(self, **options: Any) -> NativeAdapter:
        return NativeAdapter(self.directory, stack=self.stack, **options)

    async def open(self) -> list[Any]:
        found = await self.adapter.open(self.take)
        if self.base != "detect":
            assert not isinstance(self.base, str)
            self.adapter.cgroups.base = self.base
        return found

    def take(self, event: AdapterEvent) -> None:
        self.events.append(event)
        self.news.set()

    async def spawn(self, *command: str, name: str = "d", instance: int = 1, **fields: Any) -> Spawned:
        config = DaemonConfig(name, command=command, **fields)
        return await self.adapter.spawn(config, self.ids.setdefault(name, DaemonId.new()), instance)

    async def event(self, kind: type[Any], key: InstanceKey | None = None) -> Any:
        """Wait for the first event of that kind (about `key`) and take it out."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                for one in self.events:
                    if isinstance(one, kind) and (key is None or one.key == key):  # type: ignore[union-attr]
                        self.events.remove(one)
                        return one
                self.news.clear()
                await self.news.wait()

    async def end(self, name: str = "d", instance: int = 1) -> InstanceExited:
        """Its exit, taken and released."""
        key = InstanceKey(name, instance)
        exited: InstanceExited = await self.event(InstanceExited, key)
        await self.adapter.release(key)
        return exited

    def troubles(self) -> list[str]:
        return [event.what for event in self.events if isinstance(event, AdapterTrouble)]

    def living(self) -> list[int]:
        """Every process that is part of one of our instances.

        The kernel closes the status pipe of an exec some microseconds before it has set the new environment, so one
        whose start has just been answered may not be here yet.
        """
        ids = {str(id) for id in self.ids.values()}
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit() and (marker_of(int(entry)) or "").rpartition(".")[0] in ids:
                found.append(int(entry))
        return found

    def _killed(self) -> bool:
        """Kill all that live; again and again, since one that is just being executed has no marker yet."""
        living = [pid for pid in self.living() if is_alive(pid)]
        for pid in living:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not living

    async def close(self) -> None:
        await until(self._killed, "the end of all instances")
        for record in list(self.adapter._records.values()):
            with contextlib.suppress(PlatformError):
                await self.adapter.release(record.key)
        await self.adapter.close()
        remove_cgroups(f"duende-{self.stack}")


def is_alive(pid: int) -> bool:
    """Whether there is such a process that is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def until(condition: Callable[[], Any], what: str) -> Any:
    """Look again and again, for what gives no event."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not (value := condition()):  # noqa: ASYNC110 - there is none
                await asyncio.sleep(0.005)
            return value
    except TimeoutError:
        raise AssertionError(f"never came: {what}; there are {describe_processes()}") from None


def describe_processes() -> list[str]:
    """Every process that is part of an instance or a keeper, for the message of a test that failed."""
    found = []
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            pid = int(entry) if entry.isdigit() else 0
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
            if pid and (marker_of(pid) or b"keeper/__main__.py" in line):
                status = Path(f"/proc/{pid}/status").read_text().splitlines()
                facts = [one for one in status if one.startswith(("State", "PPid", "ShdPnd", "SigPnd"))]
                groups = [one for one in Path(f"/proc/{pid}/cgroup").read_text().splitlines() if "duende" in one]
                found.append(f"{pid} {line!r} {marker_of(pid)} {facts} {groups}")
    return found


def read(path: Path | str) -> str:
    """A small file, here or in /proc."""
    return Path(path).read_text()


def cgroups_of(stack: str) -> list[str]:
    """What is left of a stack's cgroups in any hierarchy."""
    return [os.path.join(top, name) for top, names, _ in os.walk("/sys/fs/cgroup") for name in names
            if name == f"duende-{stack}"]  # fmt: skip


def keeper_gone(directory: Path) -> bool:
    return not keepers_of(directory)


def keepers_of(directory: Path) -> list[int]:
    """The keepers that were started for this folder: their log is open there."""
    log = str(directory / "keeper.log")
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                if (
                    os.readlink(f"/proc/{entry}/fd/2") == log
                    and b"keeper/__main__.py" in Path(f"/proc/{entry}/cmdline").read_bytes()
                ):
                    found.append(int(entry))
    return found


Play = Callable[..., None]


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix=f"dt-{os.getpid()}-"))
    yield path
    for pid in keepers_of(path):
        os.kill(pid, signal.SIGKILL)
    shutil.rmtree(path)


@pytest.fixture
def play(folder: Path) -> Play:
    """Run `scene(bench)` on a loop with an open adapter, then end everything and see that the keeper has ended too."""

    def run(scene: Callable[[Bench], Awaitable[None]], *, base: CgroupBase | str | None = "detect") -> None:
        async def main() -> None:
            bench = Bench(folder, base)
            await bench.open()
            try:
                async with asyncio.timeout(60):
                    await scene(bench)
            finally:
                await bench.close()
            await until(lambda: keeper_gone(folder), "the keeper's end")

        asyncio.run(main())

    return run
