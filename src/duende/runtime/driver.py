"""The loop around the core: event → step → commit → perform.

Events are queued and handled in batches: all steps of a batch are decided first, written in one transaction, and only
then performed, so what is about to be done is always on record before it is done. Effects that take time run as tasks
owned here; their outcome is posted as the next event. The driver knows adapters and the store, but no policy.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from duende.adapters.base import InstanceKey, PlatformAdapter
from duende.adapters.native.render import failed_start
from duende.config.daemon import DaemonConfig
from duende.core.alarm import Alarm
from duende.core.effects import ArmTimer, Effect, KillTree, Note, RunStopCommand, SendSignal, Spawn
from duende.core.events import Event, Exited, Spawned, SpawnFailed, StopStepFailed, TimerFired
from duende.core.lifecycle import step
from duende.core.state import DaemonState
from duende.errors import NotFound, PlatformError
from duende.model.exits import ExitInfo, ExitReason
from duende.model.handle import DaemonHandle
from duende.model.ids import DaemonId
from duende.runtime import store as stored
from duende.runtime.commands import CommandFailed
from duende.runtime.eventlog import EventLog, rfc3339
from duende.runtime.hooks.alarms import Alarms
from duende.runtime.store import Record, Store
from duende.runtime.timers import Timers
from duende.system.clock import Clock

__all__ = ["Driver", "Slot"]

_STORE_RETRY_S = 1.0  # after a full disk; there is no event that tells when space is back


@dataclass(slots=True)
class Slot:
    """One daemon in the shell: its configuration, its state in the core, and what the shell knows besides."""

    config: DaemonConfig
    id: DaemonId
    adapter: PlatformAdapter
    state: DaemonState
    handle: DaemonHandle | None = None
    limits_not_enforced: tuple[str, ...] = ()
    wall_started_s: float = 0.0
    probe_text: str = ""  # why its start or readiness probe does not pass
    status_text: str = ""  # what the daemon says of itself (sd_notify STATUS=, a failed init)
    children: Mapping[str, Any] = field(default_factory=dict)  # what a Python class says of those inside it
    next_run_s: float | None = None  # of its schedule, on the boot-time clock
    next_run_text: str = ""  # the same for people, in the schedule's time zone
    alarm: Alarm = field(default_factory=Alarm)  # what was told of its troubles
    removed: bool = False  # no longer configured: it is stopped, then forgotten
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def key(self) -> InstanceKey:
        """The present incarnation."""
        return InstanceKey(self.config.name, self.state.instance)

    def record(self) -> Record:
        """As it is stored."""
        extra = {
            "wall_started_s": self.wall_started_s,
            "gaps": list(self.limits_not_enforced),
            "platform": self.config.platform,
            "alarm": self.alarm.to_json(),
        }
        handle = self.handle.to_json() if self.handle else None
        return Record(self.config.name, str(self.id), self.state.to_json(), handle, extra)


class Driver:
    """Owns the slots' states. `on_step(slot, before, event)` is called after a batch is committed, for each step that
    changed one; `run_for(slot, command)` runs a command of its configuration (CommandFailed).
    """

    def __init__(
        self, store: Store, events: EventLog, clock: Clock, on_step: Callable[[Slot, DaemonState, Event], None],
        *, run_for: Callable[[Slot, Sequence[str]], Awaitable[None]], uniform: Callable[[], float] = random.random,
    ) -> None:  # fmt: skip
        self.slots: dict[str, Slot] = {}
        self._store = store
        self._events = events
        self._clock = clock
        self._uniform = uniform
        self._run_for = run_for
        self._on_step = on_step
        self._queue: deque[tuple[str, Event]] = deque()
        self._history: list[tuple[str, tuple[Any, ...]]] = []
        self._held = True  # until `begin`: what is found at the start is collected first, then decided together
        self._all_are_new = False
        self._scheduled = False
        self._durable = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._store_retry: asyncio.TimerHandle | None = None
        self._timers = Timers(clock, lambda name, token: self.post(name, TimerFired(token)), self._is_live)
        self.alarms = Alarms(events, clock, self.slots, self.touch)
        self._touched: dict[str, Slot] = {}
        self.idle = asyncio.Event()  # set while nothing is queued
        self.idle.set()
        self.stopped = False

    @property
    def store_trouble(self) -> str:
        """Why the last commit could not be written; empty when all is on record."""
        return self._store.trouble

    def now_s(self) -> float:
        """The boot-time clock, on which the core's times are."""
        return self._clock.boottime_s()

    def post(self, name: str, event: Event, *, durable: bool = False) -> None:
        """Queue an event. `durable`: the user's word, to be on the disk before it is acted on."""
        self._queue.append((name, event))
        self._durable = self._durable or durable
        self.wake()

    def wake(self) -> None:
        """Make sure that a batch (and with it a commit) comes soon."""
        self.idle.clear()
        if not (self._scheduled or self.stopped or self._held):
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._batch)

    def touch(self, slot: Slot) -> None:
        """Have its record written, though no step has changed its state."""
        self._touched[slot.config.name] = slot
        self.wake()

    def begin(self) -> None:
        """Start deciding. The first commit has all daemons, also those that nothing happens to yet: the next manager
        must not take them for new ones, nor find them known and not yet wanted.
        """
        self._held, self._all_are_new = False, True
        self.wake()

    def restore(self, slot: Slot) -> None:
        """Arm the timers of a state that was read from the store."""
        for timer in slot.state.timers:
            self._timers.arm(slot.config.name, timer.token, timer.deadline_s)
        self._timers.plan()
        self.alarms.restore(slot)

    def lost_at_reboot(self, name: str, state: DaemonState) -> None:
        """Close the history of what ran when the machine went down."""
        if state.status.has_instance and state.executed:
            ended = ExitInfo.unknown("the machine was restarted")
            self._history.append(stored.ended(name, state.instance, rfc3339(self._clock.wall_s()), ended.to_json()))

    def perform_again(self, slot: Slot, effect: Effect) -> None:
        """Perform an effect whose outcome an earlier manager did not live to see."""
        self._perform(slot, effect)

    def forget(self, name: str) -> None:
        """Remove a daemon that has no instance."""
        self.slots.pop(name, None)
        self._store.commit((), self._events.take_unwritten(), forget=(name,))

    async def close(self) -> None:
        """Stop deciding; what is under way is given up and will be found again by the next manager."""
        self.stopped = True
        self._timers.stop()
        self.alarms.stop()
        if self._store_retry is not None:
            self._store_retry.cancel()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- one batch

    def _batch(self) -> None:
        self._scheduled = False
        if self.stopped:
            return
        now_s = self._clock.boottime_s()
        done: list[tuple[Slot, DaemonState, Event, tuple[Effect, ...]]] = []
        while self._queue:
            name, event = self._queue.popleft()
            slot = self.slots.get(name)
            if slot is None:
                continue
            before = slot.state
            try:
                slot.state, effects = step(before, event, now_s=now_s, uniform=self._uniform())
            except Exception as error:  # noqa: BLE001 - a bug of ours about one daemon must not cost the others theirs
                self._internal_error(f"{name} cannot take {type(event).__name__}", error)
                continue
            self._describe(slot, before, event, effects)
            done.append((slot, before, event, effects))
        everything, self._all_are_new = self._all_are_new, False
        changed = {slot.config.name: slot for slot, before, _, _ in done if slot.state is not before}
        touched = {name: slot for name, slot in self._touched.items() if self.slots.get(name) is slot}
        self._touched.clear()
        self._commit(self.slots if everything else touched | changed)
        for slot, before, event, effects in done:
            for effect in effects:
                self._perform(slot, effect)
            if isinstance(event, Exited):
                self.own(slot.adapter.release(InstanceKey(slot.config.name, event.instance)))
            if slot.state is not before:
                slot.changed.set()
                slot.changed = asyncio.Event()
            try:
                self._on_step(slot, before, event)
            except Exception as error:  # noqa: BLE001  (a bug of ours must not stop the supervision of the others)
                self._internal_error(f"{slot.config.name} after {type(event).__name__}", error)
        self._timers.plan()
        self.alarms.plan()
        if not self._queue:
            self.idle.set()

    def _describe(self, slot: Slot, before: DaemonState, event: Event, effects: tuple[Effect, ...]) -> None:
        """Write down what happened and why: for people, for hooks, for the history."""
        self.alarms.on_step(slot, before, event, effects)
        name, time = slot.config.name, rfc3339(self._clock.wall_s())
        match event:
            case Spawned(instance=instance) if slot.state.executed and not before.executed:
                slot.wall_started_s = self._clock.wall_s()
                self._history.append(stored.began(name, instance, slot.handle.pid if slot.handle else None, time))
            case Exited(instance=instance, exit=exit_info) if instance == before.instance:
                if before.status.has_instance and not before.executed:  # found so by a takeover: begun and ended unseen
                    self._history.append(stored.began(name, instance, slot.handle.pid if slot.handle else None, time))
                self._history.append(stored.ended(name, instance, time, exit_info.to_json()))
            case _:
                pass

    def _commit(self, changed: Mapping[str, Slot]) -> None:
        history, self._history = self._history, []
        durable, self._durable = self._durable, False
        was_in_trouble = bool(self._store.trouble)
        records = [slot.record() for slot in changed.values()]
        written = self._store.commit(records, self._events.take_unwritten(), history=history, durable=durable)
        self._events.committed()
        if not written:
            if not was_in_trouble:
                self._events.record(
                    "", "alert", f"{self._store.trouble}; supervision goes on, it is written when it can be"
                )
            if self._store_retry is None:
                self._store_retry = asyncio.get_running_loop().call_later(_STORE_RETRY_S, self._retry_store)
        elif was_in_trouble:
            self._events.record("", "alert-cleared", "the state database can be written again")
            self.wake()

    def _retry_store(self) -> None:
        self._store_retry = None
        self._commit({})

    # --- effects

    def _perform(self, slot: Slot, effect: Effect) -> None:
        match effect:
            case ArmTimer(token=token, deadline_s=deadline_s):
                self._timers.arm(slot.config.name, token, deadline_s)
            case Spawn(instance=instance):
                self.own(self._spawn(slot, instance))
            case SendSignal(signal=number, tree=tree):
                self.own(self._signal(slot, number, tree))
            case RunStopCommand():
                self.own(self._ask_to_stop(slot, effect))
            case KillTree(leader_only=leader_only):
                self.own(self._kill(slot, leader_only))
            case Note():
                pass  # written by _describe, before the effects

    async def _spawn(self, slot: Slot, instance: int) -> None:
        name = slot.config.name
        try:
            spawned = await slot.adapter.spawn(slot.config, slot.id, instance)
        except PlatformError as error:
            self.post(name, SpawnFailed(instance, failed_start(error, at_s=self._clock.wall_s())))
            return
        except Exception as error:
            # Without an answer it would be `starting` for ever, and could not even be stopped.
            text = f"internal error: {type(error).__name__}: {error}"
            ended = ExitInfo(ExitReason.ERROR, text, at_s=self._clock.wall_s(), transient=True)
            self.post(name, SpawnFailed(instance, ended))
            raise
        if slot.state.instance == instance:
            slot.handle = spawned.handle
            slot.limits_not_enforced = spawned.limits_not_enforced
            slot.status_text = slot.probe_text = ""
            slot.children = {}
        self.post(name, Spawned(instance, spawned.awaits_ready))

    async def _signal(self, slot: Slot, number: int, tree: bool) -> None:
        if slot.handle is None:
            return
        try:
            await slot.adapter.signal(slot.handle, number, tree=tree)
        except NotFound:
            return  # it has ended; the exit is on its way
        except PlatformError as error:
            self._alert(slot, f"cannot send signal {number}: {error}")

    async def _ask_to_stop(self, slot: Slot, effect: RunStopCommand) -> None:
        """A step of a stop ladder. Whether it has worked is told by the daemon's end; its own failure at once."""
        try:
            async with asyncio.timeout(effect.limit_s):
                await self._run_for(slot, effect.command)
        except TimeoutError:
            return  # the ladder's own timer says what comes next
        except (CommandFailed, PlatformError) as error:
            self.post(slot.config.name, StopStepFailed(effect.instance, effect.step, str(error)))

    async def _kill(self, slot: Slot, leader_only: bool) -> None:
        if slot.handle is None:
            return
        try:
            await slot.adapter.kill(slot.handle, leader_only=leader_only)
        except NotFound:
            return  # it has ended; the exit is on its way
        except PlatformError as error:
            self._alert(slot, f"cannot kill: {error}")

    def _alert(self, slot: Slot, message: str) -> None:
        self._events.record(slot.config.name, "alert", message, status=slot.state.status.value)
        self.wake()

    def own(self, work: Any) -> None:
        """Run a coroutine as a task of this driver; a failure is recorded, `close` ends it."""
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._internal_error("an effect failed", error)
            self.wake()

    def _internal_error(self, what: str, error: BaseException) -> None:
        """A bug of ours must be seen, and must not stop the supervision of everything else."""
        self._events.record("", "alert", f"internal error: {what}: {type(error).__name__}: {error}")
        asyncio.get_running_loop().call_exception_handler({"message": what, "exception": error})

    def _is_live(self, name: str, token: int) -> bool:
        slot = self.slots.get(name)
        return slot is not None and any(timer.token == token for timer in slot.state.timers)
