"""The manager of one stack, as a library: register, start, stop, watch. `duende up` is a shell around it.

One manager per stack: a lock file decides, also when two start at once. Everything here runs on one event loop; the
log pump has a thread of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from duende.adapters.base import (
    InstanceKey,
    InstanceReady,
    PlatformAdapter,
    Survey,
)
from duende.adapters.native.adapter import NativeAdapter
from duende.adapters.registry import select_adapter
from duende.config.daemon import DaemonConfig, KillMode, StackConfig
from duende.config.paths import StackPaths, make_private, stack_paths
from duende.config.probes import start_limit_s
from duende.core import fleet
from duende.core.alarm import Alarm
from duende.core.events import (
    ScheduleResumed,
    StartRequested,
    StopRequested,
)
from duende.core.policy import LifecyclePolicy
from duende.core.state import DaemonState
from duende.errors import (
    ConfigurationError,
    NotFound,
    Problem,
    ShuttingDown,
    StateError,
)
from duende.model.exits import exit_code_of
from duende.model.handle import DaemonHandle
from duende.model.health import HealthStatus
from duende.model.ids import DaemonId
from duende.model.status import DaemonStatus
from duende.runtime import pidfile, takeover
from duende.runtime.driver import Driver, Slot
from duende.runtime.eventlog import EventLog
from duende.runtime.hooks.hooks import Hooks
from duende.runtime.hooks.send import Sender
from duende.runtime.logs import LogPump, LogStore
from duende.runtime.logs.listen import LineListener, was_said
from duende.runtime.operations import Operations
from duende.runtime.reactions import Reactions
from duende.runtime.schedules import Schedules
from duende.runtime.stacklock import StackLock
from duende.runtime.store import Record, Store
from duende.runtime.thresholds import Thresholds
from duende.runtime.watchers import Services, Watchers
from duende.system.clock import Clock, SystemClock
from duende.system.process import boot_id

__all__ = ["DaemonManager"]


class DaemonManager(Operations):
    """Supervise the daemons of `stack`. Use it as an async context manager, or call `open` and `close`."""

    def __init__(
        self,
        stack: StackConfig,
        *,
        paths: StackPaths | None = None,
        clock: Clock | None = None,
        resume: bool = False,  # in the place of one that died: what that one was asked to do is gone on with
    ) -> None:
        self._resume = resume
        self.stack = stack
        self.paths = paths or stack_paths(stack.name)
        self.clock = clock or SystemClock()
        self.health: dict[str, HealthStatus] = {}
        self.exit_code = 0  # with which the process should end: that of an essential daemon
        self.finished = asyncio.Event()  # set by `shutdown`: whoever runs this manager may end
        self._lock = StackLock(stack.name, self.paths)
        self._opened_s = 0.0
        self._adapters: dict[str, PlatformAdapter] = {}
        self._after: dict[str, Mapping[str, Any]] = {}
        self._directories: dict[str, Path] = {}

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # --- coming and going

    async def open(self) -> None:
        """Take the stack's lock, find what runs already, and start what is wanted.

        Raises ManagerRunning when another manager has the lock, ConfigurationError for unusable directories, StateError
        for an unusable state database.
        """
        make_private(self.paths.runtime_dir)
        make_private(self.paths.state_dir)
        self._lock.take()
        async with contextlib.AsyncExitStack() as undo:
            undo.callback(self._lock.release)
            await self._open_locked(undo)
            undo.pop_all()

    async def _open_locked(self, undo: contextlib.AsyncExitStack) -> None:
        self._opened_s = self.clock.boottime_s()
        self.first_seq = 0  # events after this number are of this manager
        loop = asyncio.get_running_loop()
        self._store = Store(Path(self.paths.state_db))
        undo.callback(self._store.close)
        self.events = EventLog(self._store, self.clock)
        self.first_seq = self.events.last_seq
        self._reactions = Reactions(
            self.events, self._adapters, self._after, self.health, self._unmet, self._essential_ended
        )
        self._driver = Driver(self._store, self.events, self.clock, self._reactions.on_step, run_for=self.run_for)
        self._watchers = Watchers(
            Services(
                self._driver.post, self._reactions.on_health, self.run_for,
                lambda name, call: self._pump.subscribe(name, call), self._reactions.alert,
            )
        )  # fmt: skip
        self._schedules = Schedules(self._driver, self.clock, self._unmet, lambda: self._reactions.shutting_down)
        undo.callback(self._schedules.close)
        self._thresholds = Thresholds(self._driver.post, self.clock)
        self._reactions.connect(self._driver, self._watchers, self._thresholds, self._schedules)
        self.hooks = self._make_hooks()
        self._pump = LogPump(
            Path(self.paths.log_dir),
            on_alert=lambda name, text: _from_thread(loop, self._reactions.alert, name, text),
            on_alert_cleared=lambda name: _from_thread(loop, self._reactions.alert_cleared, name),
        )
        self._pump.start()
        undo.callback(self._pump.close)
        self.log_store = LogStore(
            Path(self.paths.log_dir), subscribe=self._pump.subscribe, directories=self._directories
        )
        stored = self._store.records()
        same_boot = self._store.meta("boot_id") == boot_id()
        before = self._store.meta("running") if same_boot else "no"
        was_running = before in ("yes", "stopping")
        # In the place of one that died in the midst of a `down`, or in its last moments after it.
        was_stopping = self._resume and same_boot and before in ("stopping", "no")
        if not was_running and not was_stopping:  # so that who comes in our place can tell our beginning from that end
            self._remember_running("beginning")
        # With the first commit, in the same transaction as what is wanted of each daemon: a manager that dies before it
        # has come to nothing, and its successor begins as it would have.
        self._store.stage_meta("boot_id", boot_id())
        self._store.stage_meta("running", "stopping" if was_stopping else "yes")
        for config in self.stack.daemons.values():
            self._add(config, stored.get(config.name), same_boot, fresh=not was_running)
        if not same_boot:  # also those that this file does not have: when another has them again, no boot is between
            self._store.stage(
                takeover.stored_after_reboot(one) for name, one in stored.items() if name not in self.slots
            )
        for name, record in stored.items():  # before the adapters are open: these may have ended meanwhile, too
            if name not in self.slots and (DaemonStatus(record.state["status"]).has_instance and same_boot):
                self._add(DaemonConfig(name, command=("(no longer configured)",)), record, same_boot, removed=True)
        for adapter in self._adapters.values():
            undo.push_async_callback(adapter.close)
        undo.push_async_callback(self._driver.close)
        found = await self._open_adapters()
        for stranger in await takeover.reconcile(self._driver, found):
            await self._end_stranger(stranger)
        self.events.record("", "manager", "took over" if was_running else "started", data={"pid": os.getpid()})
        if not was_stopping:
            self._start_wanted(was_running, new=[name for name in self.slots if name not in stored])
        for slot in self.slots.values():
            self._watchers.follow(slot)
            if slot.config.ready.log is not None and slot.handle is not None and slot.state.ready_s is None:
                self._driver.own(self._look_in_log(slot, slot.config.ready.log))
            self._thresholds.follow(slot)
        undo.push_async_callback(self.hooks.close)
        self.hooks.open(self.first_seq)
        self._driver.begin()
        if was_stopping:
            self._driver.own(self.shutdown())
        else:
            self._schedules.begin()

    async def _open_adapters(self) -> dict[InstanceKey, Survey]:
        found: dict[InstanceKey, Survey] = {}
        for name, adapter in self._adapters.items():
            for survey in await adapter.open(lambda event, name=name: self._reactions.on_adapter(name, event)):  # type: ignore[misc]
                found[survey.key] = survey
        return found

    async def shutdown(self, *, stop_daemons: bool = True) -> None:
        """`duende down`: stop everything in reverse order (or leave it running) and let whoever runs this manager end.

        What is wanted stays wanted: the next `up` starts it again.
        """
        self._reactions.shutting_down = True
        if stop_daemons:
            self._remember_running("stopping")  # a manager that comes after ours was killed goes on with that
            while self._anything_runs():  # again: an operation that was accepted before may have started something
                await self._stop_all()
            self._remember_running("no")
        await self._driver.idle.wait()
        self.finished.set()

    def _essential_ended(self, slot: Slot) -> None:
        if self.is_shutting_down:
            return
        self.exit_code = exit_code_of(slot.state.exit)
        text = f"is essential and has ended for good: the stack is stopped, with exit code {self.exit_code}"
        self.events.record(slot.config.name, "alert", text)
        self._driver.own(self.shutdown())

    async def _stop_all(self) -> None:
        slots = dict(self.slots)  # those no longer configured vanish when they have stopped
        for layer in fleet.stop_layers(list(slots), self._after):
            for name in layer:
                self._driver.post(name, StopRequested(for_now=True))
            await asyncio.gather(*(self._settled(slots[name]) for name in layer))

    def _anything_runs(self) -> bool:
        return any(
            slot.state.status.has_instance or slot.state.status is DaemonStatus.BACKOFF or slot.state.waiting
            for slot in self.slots.values()
        )

    def _remember_running(self, value: str) -> None:
        try:
            self._store.set_meta("running", value)
        except StateError as error:  # a full disk: the next manager takes this for a death, and starts the same
            self._reactions.alert("", str(error))

    async def close(self) -> None:
        """Let go of everything; instances go on (see `shutdown`). The keeper ends if it holds none."""
        self._schedules.close()
        await self._watchers.close()
        self._thresholds.close()
        await self.hooks.close()
        await self._driver.close()
        for adapter in self._adapters.values():
            if isinstance(adapter, NativeAdapter) and not any(slot.state.executed for slot in self.slots.values()):
                await adapter.end_keeper()
            await adapter.close()
        await asyncio.to_thread(self._pump.close)
        self._store.close()
        self._lock.release()

    async def drained(self, timeout_s: float) -> None:
        """Wait until what the ended incarnations wrote is in their logs, at most `timeout_s`."""
        ends = [
            asyncio.wrap_future(self._pump.drained(slot.config.name, slot.state.instance))
            for slot in self.slots.values()
            if slot.state.instance and not slot.state.executed
        ]
        if ends:
            await asyncio.wait(ends, timeout=timeout_s)

    # --- asking

    def tell(self, kind: str, text: str, data: dict[str, Any] | None = None) -> None:
        """Record an event of the manager itself (`alert`, `alert-cleared`)."""
        self.events.record("", kind, text, data=data)
        self._driver.wake()

    @property
    def is_shutting_down(self) -> bool:
        """Whether `shutdown` has begun."""
        return self._reactions.shutting_down

    @property
    def stack_name(self) -> str:
        """The stack's name."""
        return self.stack.name

    @property
    def config_path(self) -> str | None:
        """The file that describes the stack; None for one made in memory."""
        return str(self.stack.path) if self.stack.path else None

    @property
    def slots(self) -> dict[str, Slot]:
        """The daemons by name, in the order of the file."""
        return self._driver.slots

    @property
    def native(self) -> NativeAdapter | None:
        """The native adapter, if any daemon uses it."""
        adapter = self._adapters.get("native")
        return adapter if isinstance(adapter, NativeAdapter) else None

    # --- asking for something to be done

    async def register(self, config: DaemonConfig) -> None:
        """Add a daemon to a running manager; it is started if `autostart` says so. ConfigurationError if it can't
        be.
        """
        if self.is_shutting_down:
            raise ShuttingDown(f"cannot register {config.name!r}: the stack is being stopped")
        config.validate()
        if config.name in self.slots:
            raise ConfigurationError([Problem("is registered already", key=config.name, hint="give it another name")])
        known = config.platform in self._adapters
        self._add(config, self._store.records().get(config.name), same_boot=True)
        if not known:
            name = config.platform
            await self._adapters[name].open(lambda event: self._reactions.on_adapter(name, event))
        if config.autostart:
            self._driver.post(config.name, self._first_event(self.slots[config.name]))

    # --- slots

    def _make_hooks(self) -> Hooks:
        on_failure = [
            config.on_failure.hook_for(config.name, config.source)
            for config in self.stack.daemons.values()
            if config.on_failure is not None
        ]
        return Hooks(
            [*self.stack.hooks, *on_failure], stack=self.stack.name, store=self._store, events=self.events,
            clock=self.clock, send=Sender(str(self.stack.directory), self.start_for_hook), tell=self.tell,
            commit_soon=self._driver.wake,
        )  # fmt: skip

    def _add(
        self, config: DaemonConfig, record: Record | None, same_boot: bool, *, removed: bool = False,
        fresh: bool = False,
    ) -> None:  # fmt: skip
        policy = _policy(config)
        state = DaemonState(policy=policy)
        handle = None
        if record is not None:
            state = DaemonState.from_json(dict(record.state), policy)
            if same_boot:
                handle = DaemonHandle.from_json(record.handle) if record.handle else None
            else:
                self._driver.lost_at_reboot(config.name, state)
                state = takeover.after_reboot(state)
                if config.pid_file is not None:
                    pidfile.remove(config.pid_file, None)
            if fresh:  # what completed in an earlier life of the stack is to be done again
                state = replace(state, completed=state.completed and not state.wanted)
        id = DaemonId.parse(record.id) if record else DaemonId.new()
        slot = Slot(config, id, self._adapter(config.platform), state, handle, removed=removed)
        if record is not None:
            slot.wall_started_s = float(record.extra.get("wall_started_s", 0.0))
            slot.alarm = Alarm.from_json(record.extra.get("alarm"))
        self.slots[config.name] = slot
        if config.after:
            self._after[config.name] = config.after
        if config.log.directory is not None:
            self._directories[config.name] = config.log.directory

    def _adapter(self, platform: str) -> PlatformAdapter:
        if platform not in self._adapters:
            options: dict[str, Any] = {}
            if platform == "native":
                options = {
                    "directory": Path(self.paths.runtime_dir),
                    "stack": self.stack.name,
                    "on_output": self._take_output,
                    "worker_places": {"state_dir": self.paths.state_dir, "config_file": self.config_path or ""},
                }
            self._adapters[platform] = select_adapter(platform, **options)
        return self._adapters[platform]

    def _start_wanted(self, was_running: bool, new: list[str]) -> None:
        """After a clean start everything that is wanted is started; after a manager's death only what nobody knew
        before, and what it had stopped for now or was about to start.
        """
        for name, slot in self.slots.items():
            if slot.removed:
                self._driver.post(name, StopRequested())
            elif name in new:
                if slot.config.autostart:
                    self._driver.post(name, self._first_event(slot))
            elif slot.config.schedule is not None and not slot.state.waiting:
                continue  # runs when its next slot comes, whatever became of the last one
            elif slot.state.wanted and (not was_running or slot.state.waiting or _is_half_done(slot.state)):
                self._driver.post(name, StartRequested(blocked=bool(self._unmet(slot))))

    def _first_event(self, slot: Slot) -> StartRequested | ScheduleResumed:
        if slot.config.schedule is not None:
            return ScheduleResumed()
        return StartRequested(blocked=bool(self._unmet(slot)))

    async def _end_stranger(self, survey: Survey) -> None:
        """An instance that no state speaks of: an older incarnation that was given up while the manager was away."""
        try:
            await self._adapters["native"].kill(survey.handle)
        except NotFound:
            return  # it has ended as well, and only was not released yet
        text = f"{survey.key} was still there though it had been given up: SIGKILL"
        self.events.record(survey.key.name, "alert", text)
        # Its end arrives as InstanceExited for an incarnation that is not the present one, and is released then.

    def _unmet(self, slot: Slot) -> tuple[str, ...]:
        if slot.config.name not in self._after:
            return ()
        healthy = {name for name, health in self.health.items() if health.is_healthy}
        return fleet.unmet(slot.config.name, self._after, _States(self.slots), healthy)

    def _take_output(self, key: InstanceKey, config: DaemonConfig | None, stdout: int, stderr: int) -> None:
        if config is None:
            slot = self.slots.get(key.name)
            config = slot.config if slot else DaemonConfig(key.name, command=())
        listener = self._listener(key, config.ready.log) if config.ready.log is not None else None
        self._pump.attach(key.name, key.instance, "stdout", stdout, config.log, listener)
        self._pump.attach(key.name, key.instance, "stderr", stderr, config.log, listener)

    def _listener(self, key: InstanceKey, pattern: str) -> LineListener:
        loop = asyncio.get_running_loop()
        told = lambda: self._reactions.on_adapter("", InstanceReady(key))  # noqa: E731
        return LineListener(pattern, lambda: _from_thread(loop, told))

    async def _look_in_log(self, slot: Slot, pattern: str) -> None:
        """Whether the line of readiness came while an earlier manager was there, which did not live to say so."""
        key, ticks = slot.key, slot.handle.data.get("start_ticks", 0) if slot.handle else 0
        since_s = self.clock.wall_s() - self.clock.boottime_s() + ticks / os.sysconf("SC_CLK_TCK")
        said = await asyncio.to_thread(was_said, self.log_store, key.name, pattern, since_s, key.instance)
        if said and slot.key == key:
            self._reactions.on_adapter("", InstanceReady(key))


def _is_half_done(state: DaemonState) -> bool:
    """Stopped, or being stopped for no cause, though it is wanted: the manager was killed in a `down` or an `up`."""
    if state.status is DaemonStatus.STOPPING:
        return not (state.start_again or state.stop_cause)
    return state.status is DaemonStatus.STOPPED and not state.completed


class _States(Mapping[str, DaemonState]):
    """The slots as the core wants to see them."""

    def __init__(self, slots: Mapping[str, Slot]) -> None:
        self._slots = slots

    def __getitem__(self, name: str) -> DaemonState:
        return self._slots[name].state

    def __iter__(self) -> Any:
        return iter(self._slots)

    def __len__(self) -> int:
        return len(self._slots)


def _policy(config: DaemonConfig) -> LifecyclePolicy:
    return LifecyclePolicy(
        restart=config.restart,
        start_timeout_s=start_limit_s(config),
        shutdown_timeout_s=config.shutdown_timeout,
        stop=config.stop or (),
        stop_signal=int(config.stop_signal),
        stop_tree=config.kill_mode is KillMode.CONTROL_GROUP,
        kill_leader_only=config.kill_mode is KillMode.PROCESS,
        overlap=config.schedule.overlap if config.schedule else None,
    )


def _from_thread(loop: asyncio.AbstractEventLoop, call: Any, *args: Any) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: the manager has ended, and its alerts with it
        loop.call_soon_threadsafe(call, *args)
