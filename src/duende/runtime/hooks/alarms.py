"""The shell around core/alarm.py: notes into the log, and one timer for daemons that are about to have recovered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from duende.core import alarm as core
from duende.core.effects import Effect, Note
from duende.core.events import Event
from duende.core.state import DaemonState
from duende.runtime.eventlog import EventLog
from duende.runtime.timers import Timers
from duende.system.clock import Clock

if TYPE_CHECKING:
    from duende.runtime.driver import Slot

__all__ = ["Alarms"]


class Alarms:
    """Owned by the driver. `touch` has a slot's record written though no step changed its state."""

    def __init__(
        self, events: EventLog, clock: Clock, slots: Mapping[str, Slot], touch: Callable[[Slot], None]
    ) -> None:
        self._events = events
        self._clock = clock
        self._slots = slots
        self._touch = touch
        self._timers = Timers(clock, self._due, self._is_live)

    def on_step(self, slot: Slot, before: DaemonState, event: Event, effects: tuple[Effect, ...]) -> None:
        """Record the notes of a step, in the commit that its state goes out with, and what they add up to."""
        cause = type(event).__name__
        alarm, notes, again = core.after_step(slot.alarm, before, slot.state, event)
        for effect in (*notes, *effects):
            if isinstance(effect, Note):
                self._record(slot, before, effect, cause, is_news=core.is_news(again, effect, alarm))
        slot.alarm = alarm
        self._arm(slot)

    def on_health(self, slot: Slot, *, healthy: bool, settled: bool) -> bool:
        """Whether a health check's answer is news."""
        before = slot.alarm
        slot.alarm, is_news = core.on_health(before, healthy=healthy, settled=settled)
        if slot.alarm != before:
            self._touch(slot)
        return is_news

    def restore(self, slot: Slot) -> None:
        """Go on with what was stored."""
        self._arm(slot)
        self._timers.plan()

    def plan(self) -> None:
        """Set the timer; after a batch of steps."""
        self._timers.plan()

    def stop(self) -> None:
        """Tell nothing more."""
        self._timers.stop()

    def _record(self, slot: Slot, before: DaemonState, note: Note, cause: str, *, is_news: bool) -> None:
        data = {"instance": slot.state.instance, "before": before.status.value}
        self._events.record(
            slot.config.name, note.kind.value, note.text, status=slot.state.status.value, cause=cause,
            data=data if is_news else {**data, "again": True},
        )  # fmt: skip

    def _arm(self, slot: Slot) -> None:
        at_s = core.stable_at_s(slot.alarm, slot.state)
        if at_s is not None:
            self._timers.arm(slot.config.name, slot.state.instance, at_s)

    def _is_live(self, name: str, instance: int) -> bool:
        slot = self._slots.get(name)
        return (
            slot is not None
            and slot.state.instance == instance
            and core.stable_at_s(slot.alarm, slot.state) is not None
        )

    def _due(self, name: str, instance: int) -> None:
        slot = self._slots[name]
        at_s = core.stable_at_s(slot.alarm, slot.state)
        if at_s is None or at_s > self._clock.boottime_s():
            return  # it became ready later than was thought when that was armed; the later deadline is armed too
        slot.alarm, note = core.after_stable_run(slot.alarm, slot.state)
        self._record(slot, slot.state, note, "StableRun", is_news=True)
        self._touch(slot)
