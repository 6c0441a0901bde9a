"""The simulated platform: the contract of adapters/base.py over the models of keeper and kernel.

It does what the native adapter does, in its order: answers that are overtaken by events, instances whose keeper died,
strays, trees whose leader has ended. Every call that the outside can notice is a *boundary*, before and after which
the manager may be killed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from duende.adapters.base import (
    AdapterTrouble,
    Capabilities,
    EventSink,
    InstanceContinued,
    InstanceExited,
    InstanceKey,
    InstancePaused,
    InstanceReady,
    InstanceReport,
    PlatformAdapter,
    Probe,
    Spawned,
    Survey,
)
from duende.adapters.native.adapter import NativeAdapter
from duende.config.daemon import DaemonConfig, KillMode, ReadyConfig
from duende.errors import NotFound, OperationTimeout, PlatformIoError, ResourceLimit, SpawnFailed
from duende.model.exits import ExitInfo
from duende.model.handle import DaemonHandle
from duende.model.health import HealthStatus
from duende.model.ids import DaemonId
from duende.model.platform import Platform

from .keeper import Held, Line, SimKeeper
from .kernel import Parent, Process

if TYPE_CHECKING:
    from .world import Life, World

__all__ = ["SimAdapter"]

_KEEPER_START_S = 0.05
_KEEPER_RETRY_S = 1.0
_SETTLED_S = 1.0
_LOOK_S = 1.0  # at orphans: whether they were stopped or go on
_TREE_DEATH_S = 5.0
_TREE_LOOK_S = 0.01


@dataclass(slots=True, eq=False)
class _Record:
    key: InstanceKey
    handle: DaemonHandle
    process: Process
    leader_only: bool  # kill mode process: what the leader leaves behind goes on
    orphan: bool = False
    exit: ExitInfo | None = None


class SimAdapter(PlatformAdapter):
    """Of one life of a manager."""

    platform = Platform.NATIVE
    capabilities = Capabilities(pause=True, signals=True, health=True)

    def __init__(self, world: World, life: Life) -> None:
        self.world = world
        self.life = life
        self.base_environment: dict[str, str] = {}
        self._sink: EventSink = lambda event: None
        self._records: dict[InstanceKey, _Record] = {}
        self._line: Line | None = None
        self._keeper: SimKeeper | None = None
        self._number = 0
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._unanswered: set[InstanceKey] = set()
        self._early: dict[InstanceKey, list[tuple[str, Any]]] = {}
        self._own_tasks: list[asyncio.Task[None]] = []
        self._found_keeper = False
        self._claimed: set[InstanceKey] = set()
        self._strays: dict[InstanceKey, Held] | None = {}  # held until a takeover is settled
        self._is_open = False
        self._is_closing = False
        self._replacing = False

    @property
    def keeper_pid(self) -> int | None:
        return None

    async def probe(self) -> Probe:
        return Probe(True)

    # --- coming and going

    async def open(self, sink: EventSink) -> list[Survey]:
        self._sink = self._guarded(sink)
        self._boundary("open")
        surveys = []
        for held, exit_info in await self._connect():
            record = self._record(InstanceKey.parse(held.key), held.process, held.note)
            if exit_info is not None:
                self._finish(record, exit_info)
            else:
                stopped = record.process.stopped
                self._sink(InstancePaused(record.key) if stopped else InstanceContinued(record.key))
            self._watch_ready(record)
            if record.process.ready_heard and exit_info is None:  # the keeper keeps it, and tells each manager
                self._sink(InstanceReady(record.key))
            self._replay(record.key, self._early.pop(record.key, []))
            surveys.append(Survey(record.key, record.handle, held.note))
        self._is_open = True
        asyncio.get_running_loop().call_later(_SETTLED_S, self._settle)
        return surveys

    async def close(self) -> None:
        self._boundary("close")
        self._is_closing = True
        for task in self._own_tasks:
            task.cancel()
        await asyncio.gather(*self._own_tasks, return_exceptions=True)
        self._sink = lambda event: None
        if self._line is not None:
            self._line.open["manager"] = False

    async def end_keeper(self) -> bool:
        self._boundary("end keeper")
        self._is_closing = True
        keeper = self._keeper
        if keeper is not None and keeper.alive and not keeper.instances and self.world.keeper is keeper:
            self.world.keeper_ended()
        return True

    async def _connect(self) -> list[tuple[Held, ExitInfo | None]]:
        self._found_keeper = self.world.keeper is not None and self.world.keeper.alive
        if self.world.keeper is None or not self.world.keeper.alive:
            await asyncio.sleep(_KEEPER_START_S)
            self._check_alive()
            self.world.start_keeper()
        keeper = self._keeper = self.world.keeper
        assert keeper is not None
        line = self._line = self.world.line()
        keeper.connect(line, self)
        try:
            found = await self._ask(lambda number: keeper.hello(line, number))
        except EOFError as error:
            raise PlatformIoError("the keeper does not answer") from error
        return list(found)

    # --- instances

    async def spawn(self, config: DaemonConfig, id: DaemonId, instance: int = 1) -> Spawned:
        key = InstanceKey(config.name, instance)
        self._claimed.add(key)
        if self._strays is not None:
            self._strays.pop(key, None)
        try:
            return await self._spawn(config, id, key)
        finally:
            self._claimed.discard(key)

    async def _spawn(self, config: DaemonConfig, id: DaemonId, key: InstanceKey) -> Spawned:
        instance = key.instance
        self._boundary(f"spawn {key}")
        awaits_ready = config.daemon is not None or config.ready != ReadyConfig()
        if (present := self._records.get(key)) is not None:
            return Spawned(present.handle, awaits_ready)
        if key not in self._unanswered and not (self._strays is not None and self._found_keeper):
            await self._end_marked(str(key))  # its cgroup is there: from a start that nobody remembers
        keeper, line = self._keeper, self._line
        if keeper is None or line is None:
            raise PlatformIoError("the keeper is not there; it is being started again")
        note: dict[str, Any] = {
            "id": str(id), "marker": str(key), "kill_mode": config.kill_mode.value, "awaits_ready": awaits_ready,
            "gaps": [],
        }  # fmt: skip
        self.world.on_spawn_asked(key)
        behaviour = self.world.behaviour_of(config.name, instance)
        self._unanswered.add(key)
        try:
            answer = await self._ask(lambda number: keeper.spawn(line, number, str(key), note, behaviour))
        except EOFError as error:
            self._forget_question(key)
            for left in self.world.kernel.marked(str(key)):
                self.world.kernel.signal(left, 9)
            raise PlatformIoError(f"the keeper went away during the start of {key}") from error
        self._boundary(f"spawned {key}")
        if isinstance(answer, tuple):
            self._forget_question(key)
            stage, number = answer
            if stage == "exec" and number == 2:
                raise SpawnFailed(f"cannot execute {config.name}: no such file", errno=number, stage="exec")
            raise ResourceLimit(f"cannot {stage}: try again later")
        record = self._record(key, answer.process, note)
        self._watch_ready(record)
        self._replay(key, self._forget_question(key))
        return Spawned(record.handle, awaits_ready)

    async def signal(self, handle: DaemonHandle, signal: int, *, tree: bool = False) -> None:
        record = self._find(handle)
        self._boundary(f"signal {signal} {record.key}")
        for process in self.world.kernel.tree(record.process) if tree else [record.process]:
            self.world.kernel.signal(process, signal)
        self._boundary(f"signalled {record.key}")

    async def kill(self, handle: DaemonHandle, *, leader_only: bool = False) -> None:
        record = self._find(handle)
        self._boundary(f"kill {record.key}")
        self.world.on_kill(record.key)
        for process in [record.process] if leader_only else self.world.kernel.tree(record.process):
            self.world.kernel.signal(process, 9)
        self._boundary(f"killed {record.key}")

    async def status(self, handle: DaemonHandle) -> InstanceReport:
        record = self._find(handle)
        return InstanceReport(record.process.alive, record.process.stopped, record.exit)

    async def release(self, key: InstanceKey) -> None:
        record = self._records.pop(key, None)
        if record is None:
            return
        self._boundary(f"release {key}")
        self._release_by_keeper(str(key))
        if record.process.parent is Parent.MANAGER and not record.process.alive:
            self.world.kernel.reap(record.process)
        self._boundary(f"released {key}")

    async def adopt(self, key: InstanceKey, handle: DaemonHandle) -> bool:
        self._boundary(f"adopt {key}")
        data = handle.data
        process = self.world.kernel.find(data["pid"], data["start_ticks"], data["boot_id"])
        if process is None or not process.alive:
            if data["kill_mode"] != KillMode.PROCESS.value:
                await self._end_marked(data["marker"])
            return False
        record = _Record(key, handle, process, data["kill_mode"] == KillMode.PROCESS.value, orphan=True)
        self._records[key] = record
        self._sink(InstanceContinued(key))
        self._look_at(record, False)
        self._watch_ready(record)
        self._boundary(f"adopted {key}")
        return True

    async def check_health(self, handle: DaemonHandle, timeout_s: float) -> HealthStatus:
        record = self._find(handle)
        if record.process.stopped:
            await asyncio.sleep(timeout_s)
            raise OperationTimeout(timeout_s)
        await asyncio.sleep(0.001)
        fine = record.process.behaviour.healthy or self.world.kernel.calm
        return HealthStatus.healthy(1.0) if fine else HealthStatus.unhealthy("does not feel well")

    # --- what the keeper and the kernel say

    def on_answer(self, number: int, answer: Any) -> None:
        future = self._answers.pop(number, None)
        if future is not None and not future.done():
            future.set_result(answer)

    def on_event(self, kind: str, key: str, data: Any) -> None:
        if not self.life.alive:
            return
        instance = InstanceKey.parse(key)
        record = self._records.get(instance)
        if kind == "instance":
            if record is not None or instance in self._claimed:
                return
            if self._strays is not None:
                self._strays[instance] = data
            else:
                self._end_stray(data)
        elif record is None:
            if instance in self._unanswered or not self._is_open:
                self._early.setdefault(instance, []).append((kind, data))
            elif kind == "exit":
                self._release_by_keeper(key)
        elif kind == "exit":
            self._finish(record, data)
        else:
            self._sink(InstancePaused(record.key) if kind == "stopped" else InstanceContinued(record.key))

    def on_eof(self) -> None:
        """The answer before it has been read in a turn of its own, and whoever awaited it runs first."""
        asyncio.get_running_loop().call_soon(self._on_keeper_lost)

    def _on_keeper_lost(self) -> None:
        self._line = self._keeper = None
        for future in self._answers.values():
            if not future.done():
                future.set_exception(EOFError("the keeper is gone"))
        self._answers.clear()
        if self._is_closing or not self._is_open or self._replacing:
            return
        self._sink(AdapterTrouble("the keeper is gone; instances go on, a new keeper is started"))
        for record in self._records.values():
            if record.exit is None and not record.orphan:
                record.orphan = True
                self._look_at(record, record.process.stopped)
                if not record.process.alive:
                    self.on_orphan_end(record.process)
        self._replacing = True
        self._own_task(self._replace_keeper())

    def on_orphan_end(self, process: Process) -> None:
        """Its pidfd is readable: wait(2) if it fell to us, otherwise the kernel does not tell."""
        for record in self._records.values():
            if record.process is process and record.orphan and process.ended is not None:
                known = process.parent is Parent.MANAGER
                why = f"pid {process.pid} ended while no keeper was its parent"
                how = process.ended if known else ExitInfo.unknown(why)
                asyncio.get_running_loop().call_soon(self._finish, record, how)

    def _look_at(self, record: _Record, was_stopped: bool) -> None:
        """No event tells of SIGSTOP to a process without a keeper."""
        if not self.life.alive or record.exit is not None or not record.orphan:
            return
        stopped = record.process.stopped and record.process.alive
        if stopped is not was_stopped:
            self._sink(InstancePaused(record.key) if stopped else InstanceContinued(record.key))
        self.world.after(_LOOK_S, lambda: self._look_at(record, stopped))

    async def _replace_keeper(self) -> None:
        while True:
            try:
                known = await self._connect()
                break
            except PlatformIoError as error:
                self._sink(AdapterTrouble(f"no new keeper: {error}; it is tried again"))
            await asyncio.sleep(_KEEPER_RETRY_S)
        self._replacing = False
        assert not known  # a keeper that has just begun
        self._sink(AdapterTrouble("a new keeper is there", cleared=True))

    def _settle(self) -> None:
        """What had to be asked for again has been."""
        held, self._strays = self._strays or {}, None
        for one in held.values():
            if self.life.alive:
                self._end_stray(one)

    def _end_stray(self, held: Held) -> None:
        self.world.on_stray(InstanceKey.parse(held.key))
        for process in self.world.kernel.tree(held.process):
            self.world.kernel.signal(process, 9)
        if held.exit is not None:
            self._release_by_keeper(held.key)

    # --- records

    def _record(self, key: InstanceKey, process: Process, note: dict[str, Any]) -> _Record:
        handle = DaemonHandle.native(
            DaemonId.parse(note["id"]), process.pid, start_ticks=process.start_ticks,
            boot_id=self.world.kernel.boot_id, kill_mode=note["kill_mode"], marker=note["marker"],
        )  # fmt: skip
        process.known = True
        record = _Record(key, handle, process, note["kill_mode"] == KillMode.PROCESS.value)
        self._records[key] = record
        return record

    def _watch_ready(self, record: _Record) -> None:
        """sd_notify: a datagram, so its order with the keeper's words is anybody's guess. It is read once, ever."""
        process, now_s = record.process, self.world.now_s
        if process.behaviour.ready_s is not None:
            self.world.after(process.executed_s + process.behaviour.ready_s - now_s, lambda: self._says_ready(record))
        else:
            self.world.when_quiet.append(lambda: self._says_ready(record))
            if self.world.kernel.calm:
                self.world.after(0.0, lambda: self._says_ready(record))

    def _says_ready(self, record: _Record) -> None:
        process = record.process
        if process.stopped:
            self.world.after(_TREE_DEATH_S, lambda: self._says_ready(record))  # when it goes on
        elif self.life.alive and process.alive and not process.ready_heard:
            process.ready_heard = True
            self.world.on_ready(process)
            self._sink(InstanceReady(record.key))

    def _finish(self, record: _Record, exit_info: ExitInfo) -> None:
        if record.exit is not None or not self.life.alive:
            return
        record.exit = exit_info
        if record.leader_only or not self.world.kernel.tree(record.process):
            self._sink(InstanceExited(record.key, exit_info))
        else:
            self._own_task(self._end_tree(record, exit_info))

    async def _end_tree(self, record: _Record, exit_info: ExitInfo) -> None:
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + _TREE_DEATH_S
        while (left := self.world.kernel.tree(record.process)) and loop.time() < deadline_s:
            for process in left:
                self.world.kernel.signal(process, 9)
            await asyncio.sleep(_TREE_LOOK_S)
        self._sink(InstanceExited(record.key, exit_info, tuple(str(one) for one in left)))

    async def _end_marked(self, marker: str) -> None:
        while left := self.world.kernel.marked(marker):
            for process in left:
                self.world.kernel.signal(process, 9)
            await asyncio.sleep(_TREE_LOOK_S)
            self._check_alive()

    def _find(self, handle: DaemonHandle) -> _Record:
        self._check_alive()
        for record in self._records.values():
            if record.handle == handle and record.exit is None:
                if not record.process.alive:
                    raise NotFound(f"{handle} has ended")
                return record
        raise NotFound(f"{handle} has ended")

    # --- asking

    async def _ask(self, arrive: Callable[[int], None]) -> Any:
        assert self._line is not None
        self._number += 1
        number = self._number
        future = self._answers[number] = asyncio.get_running_loop().create_future()
        self._line.send("keeper", lambda: arrive(number))
        try:
            return await future
        finally:
            self._answers.pop(number, None)

    def _release_by_keeper(self, key: str) -> None:
        keeper, line = self._keeper, self._line
        if keeper is not None and line is not None:
            line.send("keeper", lambda: keeper.release(key))

    def _forget_question(self, key: InstanceKey) -> list[tuple[str, Any]]:
        self._unanswered.discard(key)
        return self._early.pop(key, [])

    def _replay(self, key: InstanceKey, early: list[tuple[str, Any]]) -> None:
        """What was said of it before it was known here; after our caller knows of it."""
        for kind, data in early:
            asyncio.get_running_loop().call_soon(self.on_event, kind, str(key), data)

    def _own_task(self, work: Any) -> None:
        self._own_tasks.append(asyncio.ensure_future(work))

    def _guarded(self, sink: EventSink) -> EventSink:
        return lambda event: sink(event) if self.life.alive else None

    def _check_alive(self) -> None:
        """A killed process does nothing any more, whatever its coroutines still would."""
        if not self.life.alive:
            raise asyncio.CancelledError

    def _boundary(self, what: str) -> None:
        self._check_alive()
        self.world.boundary(what)


NativeAdapter.register(SimAdapter)  # the manager asks for that class before it adopts
