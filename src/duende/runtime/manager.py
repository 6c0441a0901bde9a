"""The manager of one stack, as a library: register, start, stop, watch. `duende up` is a shell around it.

One manager per stack: a lock file decides, also when two start at once. Everything here runs on one event loop; the log pump
has a thread of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import fcntl
import fnmatch
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from duende.adapters.base import (
    AdapterEvent,
    AdapterTrouble,
    InstanceContinued,
    InstanceExited,
    InstanceKey,
    InstanceNote,
    InstancePaused,
    InstanceReady,
    PlatformAdapter,
    Survey,
)
from duende.adapters.native.adapter import NativeAdapter
from duende.adapters.native.render import environment
from duende.adapters.native.users import look_up
from duende.adapters.registry import select_adapter
from duende.config.daemon import DaemonConfig, KillMode, StackConfig
from duende.config.paths import StackPaths, make_private, stack_paths
from duende.core import fleet
from duende.core.events import (
    BecameReady,
    Continued,
    DependenciesMet,
    Event,
    Exited,
    KillRequested,
    Paused,
    RestartRequested,
    StartRequested,
    StopRequested,
)
from duende.core.policy import LifecyclePolicy
from duende.core.state import DaemonState
from duende.errors import ConfigurationError, ManagerRunning, NotFound, PlatformError, Problem, UnknownDaemon
from duende.model.handle import DaemonHandle
from duende.model.health import HealthStatus
from duende.model.ids import DaemonId
from duende.model.status import DaemonStatus
from duende.runtime import pidfile, probes, processes, report, takeover, waiting
from duende.runtime.driver import Driver, Slot
from duende.runtime.eventlog import EventLog
from duende.runtime.logs import LogPump, LogStore
from duende.runtime.store import Record, Store
from duende.runtime.watchers import Watchers
from duende.system.clock import Clock, SystemClock
from duende.system.process import boot_id

__all__ = ["DaemonManager"]

_KEEPER_PATIENCE_S = 5.0  # how long `shutdown` waits for the keeper to agree that nothing runs any more


class DaemonManager:
    """Supervise the daemons of `stack`. Use it as an async context manager, or call `open` and `close`."""

    def __init__(self, stack: StackConfig, *, paths: StackPaths | None = None, clock: Clock | None = None) -> None:
        self.stack = stack
        self.paths = paths or stack_paths(stack.name)
        self.clock = clock or SystemClock()
        self.health: dict[str, HealthStatus] = {}
        self.finished = asyncio.Event()  # set by `shutdown`: whoever runs this manager may end
        self._lock_fd = -1
        self._opened_s = 0.0
        self._adapters: dict[str, PlatformAdapter] = {}
        self._after: dict[str, Mapping[str, Any]] = {}
        self._directories: dict[str, Path] = {}
        self._shutting_down = False

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
        self._lock()
        try:
            await self._open_locked()
        except BaseException:
            os.close(self._lock_fd)
            raise

    async def _open_locked(self) -> None:
        self._opened_s = self.clock.boottime_s()
        self.first_seq = 0  # events after this number are of this manager
        loop = asyncio.get_running_loop()
        self._store = Store(Path(self.paths.state_db))
        self.events = EventLog(self._store, self.clock)
        self.first_seq = self.events.last_seq
        self._driver = Driver(self._store, self.events, self.clock, self._on_step)
        self._watchers = Watchers(self._driver.post, self._on_health, self._probe_environment)
        self._pump = LogPump(
            Path(self.paths.log_dir),
            on_alert=lambda name, text: _from_thread(loop, self._alert, name, text),
            on_alert_cleared=lambda name: _from_thread(loop, self._alert_cleared, name),
        )
        self._pump.start()
        self.log_store = LogStore(Path(self.paths.log_dir), subscribe=self._pump.subscribe, directories=self._directories)
        stored = self._store.records()
        same_boot = self._store.meta("boot_id") == boot_id()
        was_running = same_boot and self._store.meta("running") == "yes"
        self._store.set_meta("boot_id", boot_id())
        self._store.set_meta("running", "yes")
        for config in self.stack.daemons.values():
            self._add(config, stored.get(config.name), same_boot)
        found = await self._open_adapters()
        for name, record in stored.items():
            if name not in self.slots and (DaemonStatus(record.state["status"]).has_instance and same_boot):
                self._add(DaemonConfig(name, command=("(no longer configured)",)), record, same_boot, removed=True)
        for stranger in await takeover.reconcile(self._driver, found):
            await self._end_stranger(stranger)
        self.events.record("", "manager", "took over" if was_running else "started", data={"pid": os.getpid()})
        self._start_wanted(was_running, new=[name for name in self.slots if name not in stored])
        self._driver.wake()

    def _lock(self) -> None:
        self._lock_fd = os.open(self.paths.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._lock_fd, 64, 0).decode(errors="replace").strip()
            os.close(self._lock_fd)
            raise ManagerRunning(
                f"cannot manage stack {self.stack.name!r}: a manager (pid {holder or 'unknown'}) runs already; "
                "`duende status` asks it, `duende down` ends it"
            ) from None
        os.ftruncate(self._lock_fd, 0)
        os.pwrite(self._lock_fd, f"{os.getpid()}\n".encode(), 0)

    async def _open_adapters(self) -> dict[InstanceKey, Survey]:
        found: dict[InstanceKey, Survey] = {}
        for name, adapter in self._adapters.items():
            for survey in await adapter.open(lambda event, name=name: self._on_adapter(name, event)):  # type: ignore[misc]
                found[survey.key] = survey
        return found

    async def shutdown(self, *, stop_daemons: bool = True) -> None:
        """`duende down`: stop everything in reverse order (or leave it running) and let whoever runs this manager end.

        What is wanted stays wanted: the next `up` starts it again.
        """
        self._shutting_down = True
        if stop_daemons:
            for layer in fleet.stop_layers(list(self.slots), self._after):
                for name in layer:
                    self._driver.post(name, StopRequested(for_now=True))
                await asyncio.gather(*(self._settled(self.slots[name]) for name in layer))
            self._store.set_meta("running", "no")
        await self._driver.idle.wait()
        self.finished.set()

    async def close(self) -> None:
        """Let go of everything; instances go on (see `shutdown`). The keeper ends if it holds none."""
        await self._watchers.close()
        await self._driver.close()
        for adapter in self._adapters.values():
            if isinstance(adapter, NativeAdapter) and not any(slot.state.executed for slot in self.slots.values()):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_KEEPER_PATIENCE_S):
                        await adapter.end_keeper()
            await adapter.close()
        await asyncio.to_thread(self._pump.close)
        self._store.close()
        os.close(self._lock_fd)

    # --- asking

    def own_children(self) -> set[int]:
        """The children of this process that somebody here waits for (see runtime/reaper.py)."""
        pids = {slot.handle.pid for slot in self.slots.values() if slot.handle is not None and slot.handle.pid is not None}
        return pids | probes.running_commands() | ({self.native.keeper_pid or 0} if self.native else set())

    @property
    def slots(self) -> dict[str, Slot]:
        """The daemons by name, in the order of the file."""
        return self._driver.slots

    @property
    def native(self) -> NativeAdapter | None:
        """The native adapter, if any daemon uses it."""
        adapter = self._adapters.get("native")
        return adapter if isinstance(adapter, NativeAdapter) else None

    def match(self, patterns: Sequence[str]) -> list[str]:
        """Names and globs to names, in the order of the file. UnknownDaemon for one that matches nothing."""
        chosen: set[str] = set()
        for pattern in patterns:
            hits = fnmatch.filter(self.slots, pattern) or fnmatch.filter(self.slots, f"{pattern}.[0-9]*")
            if not hits:
                near = difflib.get_close_matches(pattern, self.slots, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"this stack has: {', '.join(self.slots) or 'no daemons'}"
                raise UnknownDaemon(f"no daemon {pattern!r} in stack {self.stack.name!r}; {hint}")
            chosen.update(hits)
        return [name for name in self.slots if name in chosen]

    def status(self, names: Sequence[str] = ()) -> dict[str, Any]:
        """How the stack is, in the wire form."""
        now_s = self.clock.boottime_s()
        daemons = [
            report.daemon_status(
                slot, now_s=now_s, health=self.health.get(slot.config.name), waiting_for=self._unmet(slot),
                log_tail=lambda name, lines: report.tail_of(self.log_store.read, name, lines),
            )
            for slot in report.by_name(self.slots, names)
        ]  # fmt: skip
        keeper_pid = self.native.keeper_pid if self.native else None
        return report.stack_status(self.stack.name, keeper_pid, now_s - self._opened_s, daemons)

    def processes(self, names: Sequence[str] = ()) -> list[dict[str, Any]]:
        """Every process of the trees of these daemons."""
        found: list[dict[str, Any]] = []
        for slot in report.by_name(self.slots, names):
            if slot.handle is not None and slot.state.executed and isinstance(slot.adapter, NativeAdapter):
                with contextlib.suppress(NotFound):  # it has just ended
                    found += processes.describe(slot.config.name, slot.adapter.tree_of(slot.handle).pids())
        return found

    def exec_environment(self, name: str) -> dict[str, Any]:
        """What a command needs to run as this daemon does."""
        slot = self.slots[self.match([name])[0]]
        config = slot.config
        return {
            "argv": list(config.command or ()), "env": self._probe_environment(slot), "cwd": str(config.working_dir or "/"),
            "user": config.user, "group": config.group, "umask": config.umask,
        }  # fmt: skip

    async def metrics(self, name: str, timeout_s: float = 1.0) -> dict[str, Any]:
        """Ask a Python-class daemon for its metrics. NotSupported for others, NotFound when it does not run."""
        slot = self.slots[self.match([name])[0]]
        if slot.handle is None or not slot.state.executed:
            raise NotFound(f"{name} does not run")
        return await slot.adapter.metrics(slot.handle, timeout_s)

    def follow_events(self, after: int = 0) -> AsyncIterator[dict[str, Any]]:
        """All events after that number, and new ones as they come."""
        return self.events.follow(after)

    # --- asking for something to be done

    async def register(self, config: DaemonConfig) -> None:
        """Add a daemon to a running manager; it is started if `autostart` says so. ConfigurationError if it can't be."""
        config.validate()
        if config.name in self.slots:
            raise ConfigurationError([Problem("is registered already", key=config.name, hint="give it another name")])
        known = config.platform in self._adapters
        self._add(config, self._store.records().get(config.name), same_boot=True)
        if not known:
            name = config.platform
            await self._adapters[name].open(lambda event: self._on_adapter(name, event))
        if config.autostart:
            self._driver.post(config.name, StartRequested(blocked=bool(self._unmet(self.slots[config.name]))))

    async def start(
        self, names: Sequence[str] = (), *, wait: bool = True, timeout_s: float | None = None
    ) -> list[dict[str, Any]]:
        """Start daemons (all that are not stopped by hand, if none is named) and wait until each is ready or has failed."""
        return await self._operate(names, self._start_one, wait, timeout_s)

    async def stop(
        self, names: Sequence[str] = (), *, wait: bool = True, timeout_s: float | None = None
    ) -> list[dict[str, Any]]:
        """Stop daemons and keep them stopped. Stopping what is stopped is no error."""
        return await self._operate(names, self._stop_one, wait, timeout_s)

    async def kill(
        self, names: Sequence[str] = (), *, wait: bool = True, timeout_s: float | None = None
    ) -> list[dict[str, Any]]:
        """SIGKILL whole trees at once, and keep them stopped."""
        return await self._operate(names, self._kill_one, wait, timeout_s)

    async def restart(
        self, names: Sequence[str] = (), *, wait: bool = True, timeout_s: float | None = None
    ) -> list[dict[str, Any]]:
        """A new incarnation of each; one that did not run is started."""
        return await self._operate(names, self._restart_one, wait, timeout_s)

    async def reload(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Send each its reload signal (SIGHUP unless configured)."""
        return [await self._signal_one(self.slots[name], int(self.slots[name].config.reload_signal)) for name in self._chosen(names)]

    async def signal(self, names: Sequence[str], signal: int, *, tree: bool = False) -> list[dict[str, Any]]:
        """Send a signal by its Linux number."""
        return [await self._signal_one(self.slots[name], signal, tree) for name in self._chosen(names)]

    async def wait(self, names: Sequence[str], *, until: str = "ready", timeout_s: float | None = None) -> list[dict[str, Any]]:
        """Wait until each is `ready`, `running`, `stopped`, `exited` (its present incarnation) or `healthy`."""
        await self._driver.idle.wait()

        def judge(slot: Slot) -> waiting.Verdict:
            match until:
                case "ready":
                    return waiting.ready(slot.state.attempt)
                case "running":
                    return waiting.running
                case "stopped":
                    return waiting.gone
                case "exited":
                    return waiting.exited(slot.state.instance)
                case "healthy":
                    return self._is_healthy
                case _:
                    raise ValueError(f"cannot wait for {until!r}; known are ready, running, stopped, exited, healthy")

        slots = [self.slots[name] for name in self._chosen(names)]
        judges = [(slot, judge(slot)) for slot in slots]
        return list(await asyncio.gather(*(waiting.until(slot, j, timeout_s, changed=False) for slot, j in judges)))

    # --- operations on one daemon

    async def _operate(self, names: Sequence[str], one: Any, wait: bool, timeout_s: float | None) -> list[dict[str, Any]]:
        await self._driver.idle.wait()
        planned = [(self.slots[name], *one(self.slots[name], bool(names))) for name in self._chosen(names)]
        await self._driver.idle.wait()
        if not wait:
            return [report.result(slot, True, changed) for slot, changed, _ in planned]
        return list(
            await asyncio.gather(*(waiting.until(slot, judge, timeout_s, changed=changed) for slot, changed, judge in planned))
        )

    def _start_one(self, slot: Slot, named: bool) -> tuple[bool, waiting.Verdict]:
        state = slot.state
        attempt = 0 if state.status is DaemonStatus.BACKOFF else state.attempt
        judge = self._or_blocked(waiting.ready(attempt))
        changed = not (state.status.has_instance and state.status is not DaemonStatus.STOPPING)
        if not named and not state.wanted:
            return False, lambda slot: (True, "stopped by hand, left so")
        self._driver.post(slot.config.name, StartRequested(blocked=bool(self._unmet(slot))), durable=True)
        return changed, judge

    def _stop_one(self, slot: Slot, named: bool) -> tuple[bool, waiting.Verdict]:
        changed = slot.state.status.has_instance or slot.state.status is DaemonStatus.BACKOFF
        self._driver.post(slot.config.name, StopRequested(), durable=True)
        return changed, waiting.gone

    def _kill_one(self, slot: Slot, named: bool) -> tuple[bool, waiting.Verdict]:
        changed = slot.state.status.has_instance or slot.state.status is DaemonStatus.BACKOFF
        self._driver.post(slot.config.name, KillRequested(), durable=True)
        return changed, waiting.gone

    def _restart_one(self, slot: Slot, named: bool) -> tuple[bool, waiting.Verdict]:
        before = slot.state.instance
        judge = waiting.ready(0)
        self._driver.post(slot.config.name, RestartRequested(), durable=True)
        return True, lambda slot: judge(slot) if slot.state.instance > before else None

    def _or_blocked(self, judge: waiting.Verdict) -> waiting.Verdict:
        """A daemon that waits for one that failed would be waited for in vain: say so; it still starts when that one comes."""

        def judge_both(slot: Slot) -> tuple[bool, str] | None:
            if slot.state.waiting:
                for name in self._unmet(slot):
                    other = self.slots.get(name)
                    if other is not None and waiting.is_hopeless(other):
                        why = other.state.exit.message if other.state.exit else other.state.status.value
                        return False, f"waits for {name}, which is {other.state.status.value} ({why})"
            return judge(slot)

        return judge_both

    async def _signal_one(self, slot: Slot, number: int, tree: bool = False) -> dict[str, Any]:
        if slot.handle is None or not slot.state.executed:
            return report.result(slot, False, False, f"does not run ({slot.state.status.value})")
        try:
            await slot.adapter.signal(slot.handle, number, tree=tree)
        except PlatformError as error:
            return report.result(slot, False, False, str(error))
        return report.result(slot, True, True)

    def _chosen(self, names: Sequence[str]) -> list[str]:
        return self.match(names) if names else list(self.slots)

    async def _settled(self, slot: Slot) -> None:
        await self._driver.idle.wait()
        await waiting.until(slot, waiting.gone, None, changed=True)

    def _is_healthy(self, slot: Slot) -> tuple[bool, str] | None:
        health = self.health.get(slot.config.name)
        if slot.state.status is DaemonStatus.FAILED:
            return False, slot.state.exit.message if slot.state.exit else ""
        return (True, "") if slot.state.ready and health is not None and health.is_healthy else None

    # --- slots

    def _add(self, config: DaemonConfig, record: Record | None, same_boot: bool, *, removed: bool = False) -> None:
        policy = _policy(config)
        state = DaemonState(policy=policy)
        handle = None
        if record is not None:
            state = DaemonState.from_json(dict(record.state), policy)
            if same_boot:
                handle = DaemonHandle.from_json(record.handle) if record.handle else None
            else:
                state = takeover.after_reboot(state)
                if config.pid_file is not None:
                    pidfile.remove(config.pid_file, None)
        id = DaemonId.parse(record.id) if record else DaemonId.new()
        slot = Slot(config, id, self._adapter(config.platform), state, handle, removed=removed)
        if record is not None:
            slot.wall_started_s = float(record.extra.get("wall_started_s", 0.0))
        self.slots[config.name] = slot
        if config.after:
            self._after[config.name] = config.after
        if config.log.directory is not None:
            self._directories[config.name] = config.log.directory

    def _adapter(self, platform: str) -> PlatformAdapter:
        if platform not in self._adapters:
            options: dict[str, Any] = {}
            if platform == "native":
                options = {"directory": Path(self.paths.runtime_dir), "stack": self.stack.name, "on_output": self._take_output}
            self._adapters[platform] = select_adapter(platform, **options)
        return self._adapters[platform]

    def _start_wanted(self, was_running: bool, new: list[str]) -> None:
        """After a clean start everything that is wanted is started; after a manager's death only what nobody knew before."""
        for name, slot in self.slots.items():
            if slot.removed:
                self._driver.post(name, StopRequested())
            elif name in new:
                if slot.config.autostart:
                    self._driver.post(name, StartRequested(blocked=bool(self._unmet(slot))))
            elif slot.state.wanted and (not was_running or slot.state.waiting):
                self._driver.post(name, StartRequested(blocked=bool(self._unmet(slot))))

    async def _end_stranger(self, survey: Survey) -> None:
        """An instance that no state speaks of: an older incarnation that was given up while the manager was away."""
        adapter = self._adapters["native"]
        self.events.record(survey.key.name, "alert", f"{survey.key} was still there though it had been given up: SIGKILL")
        with contextlib.suppress(NotFound):
            await adapter.kill(survey.handle)
        # Its end arrives as InstanceExited for an incarnation that is not the present one, and is released then.

    def _unmet(self, slot: Slot) -> tuple[str, ...]:
        healthy = {name for name, health in self.health.items() if health.is_healthy}
        return fleet.unmet(slot.config.name, self._after, _States(self.slots), healthy)

    # --- what comes from the platforms and from the core

    def _on_adapter(self, platform: str, event: AdapterEvent) -> None:
        match event:
            case InstanceReady(key=key):
                self._driver.post(key.name, BecameReady(key.instance))
            case InstanceExited(key=key, exit=exit_info, survivors=survivors):
                if survivors:
                    self.events.record(key.name, "alert", f"could not be killed: {'; '.join(survivors)}")
                slot = self.slots.get(key.name)
                if slot is None or slot.key != key:
                    asyncio.ensure_future(self._adapters[platform].release(key))
                    return
                self._driver.post(key.name, Exited(key.instance, exit_info))
            case InstancePaused(key=key):
                self._driver.post(key.name, Paused(key.instance))
            case InstanceContinued(key=key):
                self._driver.post(key.name, Continued(key.instance))
            case InstanceNote(key=key, kind=kind, text=text, data=data):
                self._note(key, kind, text, data)
            case AdapterTrouble(what=what, cleared=cleared):
                self.events.record("", "alert-cleared" if cleared else "alert", what)
                self._driver.wake()

    def _note(self, key: InstanceKey, kind: str, text: str, data: Mapping[str, Any]) -> None:
        slot = self.slots.get(key.name)
        if slot is None or slot.key != key:
            return
        if kind == "status":
            slot.status_text = text
        self.events.record(key.name, f"daemon-{kind}", text, status=slot.state.status.value, data=dict(data))
        self._driver.wake()

    def _on_step(self, slot: Slot, before: DaemonState, event: Event) -> None:
        state, name = slot.state, slot.config.name
        if state.executed and not before.executed:
            self._write_pid_file(slot)
        if before.executed and not state.executed:
            self.health.pop(name, None)
            if slot.config.pid_file is not None:
                pidfile.remove(slot.config.pid_file, slot.handle.pid if slot.handle else None)
        self._watchers.follow(slot)
        if slot.removed and not state.status.has_instance:
            self._driver.forget(name)
        if state is not before:
            self._release_waiting()

    def _release_waiting(self) -> None:
        if self._shutting_down:
            return
        for name in self._after:
            slot = self.slots.get(name)
            if slot is not None and slot.state.waiting and not self._unmet(slot):
                self._driver.post(name, DependenciesMet())

    def _on_health(self, slot: Slot, health: HealthStatus, news: bool) -> None:
        name = slot.config.name
        self.health[name] = health
        slot.changed.set()
        slot.changed = asyncio.Event()
        if news:
            kind = "healthy" if health.is_healthy else "unhealthy"
            self.events.record(name, kind, health.reason, status=slot.state.status.value, data=health.to_json())
            self._driver.wake()
        self._release_waiting()

    def _write_pid_file(self, slot: Slot) -> None:
        if slot.config.pid_file is None or slot.handle is None or slot.handle.pid is None:
            return
        try:
            pidfile.write(slot.config.pid_file, slot.handle.pid)
        except OSError as error:
            self._alert(slot.config.name, f"cannot write the pid file {slot.config.pid_file}: {error.strerror}")

    def _probe_environment(self, slot: Slot) -> dict[str, str]:
        config = slot.config
        base = self.native.base_environment if self.native else os.environ
        account = look_up(config.user, config.group)
        return environment(config, slot.id, slot.state.instance, base, account, None)

    def _take_output(self, key: InstanceKey, config: DaemonConfig | None, stdout: int, stderr: int) -> None:
        if config is None:
            slot = self.slots.get(key.name)
            config = slot.config if slot else DaemonConfig(key.name, command=())
        self._pump.attach(key.name, key.instance, "stdout", stdout, config.log)
        self._pump.attach(key.name, key.instance, "stderr", stderr, config.log)

    def _alert(self, name: str, text: str) -> None:
        self.events.record(name, "alert", text)
        self._driver.wake()

    def _alert_cleared(self, name: str) -> None:
        self.events.record(name, "alert-cleared", "its log can be written again")
        self._driver.wake()


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
        start_timeout_s=config.start_timeout,
        shutdown_timeout_s=config.shutdown_timeout,
        stop_signal=int(config.stop_signal),
        stop_tree=config.kill_mode is KillMode.CONTROL_GROUP,
        kill_leader_only=config.kill_mode is KillMode.PROCESS,
    )


def _from_thread(loop: asyncio.AbstractEventLoop, call: Any, *args: Any) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: the manager has ended, and its alerts with it
        loop.call_soon_threadsafe(call, *args)
