"""What the manager does when something has happened: tell the core, keep pid files and health, release who waited."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

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
)
from duende.core.events import BecameReady, Continued, DependenciesMet, Event, Exited, Paused
from duende.core.fleet import After
from duende.core.state import DaemonState
from duende.model.health import HealthStatus
from duende.runtime import pidfile
from duende.runtime.driver import Driver, Slot
from duende.runtime.eventlog import EventLog
from duende.runtime.watchers import Watchers

__all__ = ["Reactions"]


class Reactions:
    """Wired between the adapters, the driver and the watchers by the manager."""

    def __init__(
        self, events: EventLog, adapters: Mapping[str, PlatformAdapter], after: After, health: dict[str, HealthStatus],
        unmet: Callable[[Slot], tuple[str, ...]],
    ) -> None:  # fmt: skip
        self._events = events
        self._adapters = adapters
        self._after = after
        self._health = health
        self._unmet = unmet
        self._driver: Driver
        self._watchers: Watchers
        self.shutting_down = False

    def connect(self, driver: Driver, watchers: Watchers) -> None:
        """The other two call us as well, so they come second."""
        self._driver = driver
        self._watchers = watchers

    def on_adapter(self, platform: str, event: AdapterEvent) -> None:
        match event:
            case InstanceReady(key=key):
                self._driver.post(key.name, BecameReady(key.instance))
            case InstanceExited(key=key, exit=exit_info, survivors=survivors):
                if survivors:
                    self._events.record(key.name, "alert", f"could not be killed: {'; '.join(survivors)}")
                slot = self._driver.slots.get(key.name)
                if slot is None or slot.key != key:
                    self._driver.own(self._adapters[platform].release(key))
                    return
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
        if kind == "stopping":
            return  # the daemon heard what we had told it
        self._events.record(key.name, f"daemon-{kind}", text, status=slot.state.status.value, data=dict(data))
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
        if slot.removed and not state.status.has_instance:
            self._driver.forget(name)
        if state is not before:
            self._release_waiting()

    def _release_waiting(self) -> None:
        if self.shutting_down:
            return
        for name in self._after:
            slot = self._driver.slots.get(name)
            if slot is not None and slot.state.waiting and not self._unmet(slot):
                self._driver.post(name, DependenciesMet())

    def on_health(self, slot: Slot, health: HealthStatus, news: bool) -> None:
        name = slot.config.name
        self._health[name] = health
        slot.changed.set()
        slot.changed = asyncio.Event()
        if news:
            kind = "healthy" if health.is_healthy else "unhealthy"
            self._events.record(name, kind, health.reason, status=slot.state.status.value, data=health.to_json())
            self._driver.wake()
        self._release_waiting()

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
