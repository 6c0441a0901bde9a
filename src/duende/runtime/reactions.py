"""What the manager does when something has happened: tell the core, keep pid files and health, release who waited."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from duende.adapters.base import (
    AdapterEvent,
    AdapterTrouble,
    InstanceAlive,
    InstanceAsksTime,
    InstanceContinued,
    InstanceExited,
    InstanceKey,
    InstanceNote,
    InstancePaused,
    InstanceReady,
    InstanceWatchdog,
    PlatformAdapter,
)
from duende.core.events import Continued, DependenciesMet, Event, Exited, Paused, TimeAskedFor
from duende.core.fleet import After
from duende.core.state import DaemonState, has_ended_for_good
from duende.model.health import HealthStatus
from duende.runtime import pidfile
from duende.runtime.driver import Driver, Slot
from duende.runtime.eventlog import EventLog
from duende.runtime.schedules import Schedules
from duende.runtime.thresholds import Thresholds
from duende.runtime.watchers import Watchers

__all__ = ["Reactions"]


class Reactions:
    """Wired between the adapters, the driver and the watchers by the manager."""

    def __init__(
        self, events: EventLog, adapters: Mapping[str, PlatformAdapter], after: After, health: dict[str, HealthStatus],
        unmet: Callable[[Slot], tuple[str, ...]], on_essential: Callable[[Slot], None],
    ) -> None:  # fmt: skip
        self._events = events
        self._adapters = adapters
        self._after = after
        self._health = health
        self._unmet = unmet
        self._on_essential = on_essential
        self._driver: Driver
        self._watchers: Watchers
        self._thresholds: Thresholds
        self._schedules: Schedules
        self._released: set[str] = set()  # told that their dependencies are met, and not yet off waiting
        self.shutting_down = False

    def connect(self, driver: Driver, watchers: Watchers, thresholds: Thresholds, schedules: Schedules) -> None:
        """The others call us as well, so they come second."""
        self._driver = driver
        self._watchers = watchers
        self._thresholds = thresholds
        self._schedules = schedules

    def on_adapter(self, platform: str, event: AdapterEvent) -> None:
        match event:
            case InstanceReady(key=key):
                self._watchers.told(key, self._driver.slots.get(key.name))
            case InstanceAlive(key=key, heard_s=heard_s, is_trouble=is_trouble):
                self._watchers.heard(key, heard_s, is_trouble=is_trouble)
            case InstanceWatchdog(key=key, limit_s=limit_s):
                self._watchers.limit(key, limit_s)
            case InstanceAsksTime(key=key, left_s=left_s):
                self._driver.post(key.name, TimeAskedFor(key.instance, self._driver.now_s() + left_s))
            case InstanceExited(key=key, exit=exit_info, survivors=survivors):
                if survivors:
                    self._events.record(key.name, "alert", f"could not be killed: {'; '.join(survivors)}")
                if key.name not in self._driver.slots:
                    self._driver.own(self._adapters[platform].release(key))
                    return
                # Also of another incarnation: during a takeover the slot may not be caught up with it yet. The core
                # knows a late one, and the driver releases either.
                self._driver.post(key.name, Exited(key.instance, exit_info))
            case InstancePaused(key=key):
                self._driver.post(key.name, Paused(key.instance))
            case InstanceContinued(key=key):
                self._driver.post(key.name, Continued(key.instance))
            case InstanceNote(key=key, kind=kind, text=text, data=data):
                self._note(key, kind, text, data)
            case AdapterTrouble(what=what, cleared=cleared):
                self._events.record("", "alert-cleared" if cleared else "alert", what)
                self._driver.wake()

    def _note(self, key: InstanceKey, kind: str, text: str, data: Mapping[str, Any]) -> None:
        slot = self._driver.slots.get(key.name)
        if slot is None or slot.key != key:
            return
        if kind == "status":
            slot.status_text = text
            slot.children = data.get("children", slot.children)
        if kind == "stopping":
            return  # the daemon heard what we had told it
        self._events.record(
            key.name, f"daemon-{kind}", text, status=slot.state.status.value, cause="Notice", data=dict(data)
        )
        self._driver.wake()

    def on_step(self, slot: Slot, before: DaemonState, event: Event) -> None:
        state, name = slot.state, slot.config.name
        if state.executed and not before.executed:
            self._write_pid_file(slot)
        if before.executed and not state.executed:
            self._health.pop(name, None)
            if slot.config.pid_file is not None:
                self._remove_pid_file(slot)
        self._watchers.follow(slot)
        self._thresholds.follow(slot)
        if slot.removed and not state.status.has_instance:
            self._driver.forget(name)
        self._schedules.follow(slot)
        if not state.waiting:
            self._released.discard(name)
        elif not before.waiting:
            self._tell_waiting(slot, event)
        if state is not before:
            self._release_waiting(slot, type(event).__name__)
        if slot.config.essential and has_ended_for_good(state) and not has_ended_for_good(before):
            self._on_essential(slot)

    def _release_waiting(self, changed: Slot, cause: str) -> None:
        if self.shutting_down:
            return
        for name in self._after:
            slot = self._driver.slots.get(name)
            if slot is not None and slot.state.waiting and name not in self._released and not self._unmet(slot):
                self._released.add(name)
                self._tell_met(slot, changed, cause)
                self._driver.post(name, DependenciesMet())

    def _tell_waiting(self, slot: Slot, event: Event) -> None:
        waits_for = {name: slot.config.after[name].value for name in self._unmet(slot)}
        text = ", ".join(f"{name} ({condition})" for name, condition in waits_for.items())
        self._events.record(
            slot.config.name, "waiting", f"waits for {text}" if text else "what it waited for is there by now",
            status=slot.state.status.value, cause=type(event).__name__, data={"waits_for": waits_for},
        )  # fmt: skip
        self._driver.wake()

    def _tell_met(self, slot: Slot, changed: Slot, cause: str) -> None:
        """In the commit that its start goes out with."""
        after = slot.config.after
        last = changed.config.name
        if last not in after:  # it came in one batch with what happened to others
            states = {name: self._driver.slots[name].state for name in after if name in self._driver.slots}
            last = max(states, key=lambda name: states[name].ready_s or states[name].started_s or 0.0, default="")
        if last:
            self._events.record(
                slot.config.name, "dependencies-met", f"{last} is {after[last].value}", status=slot.state.status.value,
                cause=cause, data={"last": last, "condition": after[last].value},
            )  # fmt: skip

    def on_health(self, slot: Slot, health: HealthStatus, news: bool) -> None:
        name = slot.config.name
        self._health[name] = health
        slot.changed.set()
        slot.changed = asyncio.Event()
        if self._driver.alarms.on_health(slot, healthy=health.is_healthy, settled=news):
            kind = "healthy" if health.is_healthy else "unhealthy"
            self._events.record(
                name, kind, health.reason, status=slot.state.status.value, cause="HealthCheck", data=health.to_json()
            )
            self._driver.wake()
        self._release_waiting(slot, "HealthChecked")

    def _write_pid_file(self, slot: Slot) -> None:
        if slot.config.pid_file is None or slot.handle is None or slot.handle.pid is None:
            return
        try:
            pidfile.write(slot.config.pid_file, slot.handle.pid)
        except OSError as error:
            self.alert(slot.config.name, f"cannot write the pid file {slot.config.pid_file}: {error.strerror}")

    def _remove_pid_file(self, slot: Slot) -> None:
        assert slot.config.pid_file is not None
        try:
            pidfile.remove(slot.config.pid_file, slot.handle.pid if slot.handle else None)
        except OSError as error:
            self.alert(slot.config.name, f"cannot remove the pid file {slot.config.pid_file}: {error.strerror}")

    def alert(self, name: str, text: str) -> None:
        self._events.record(name, "alert", text)
        self._driver.wake()

    def alert_cleared(self, name: str) -> None:
        self._events.record(name, "alert-cleared", "its log can be written again")
        self._driver.wake()
