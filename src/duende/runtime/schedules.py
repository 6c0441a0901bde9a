"""The schedules of a stack at work: for each daemon that has one, ask the core what its next slot is, and wait for it.

Nothing is decided here. `duende.core.schedule` says what is due, from the last slot in the daemon's state and the two
clocks; the lifecycle decides what that means where the daemon stands. In between there is one timer per daemon.
Whenever a slot is dealt with, a timer is due, or the wall clock was set, the question is asked again, so a wrong guess
about the future costs a wake-up and nothing else.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import tzinfo
from typing import TYPE_CHECKING

from duende.config.times import zone_of
from duende.core.events import RunDue, SlotPassed
from duende.core.schedule import Begin, PassOver, Run, Wait, assess, time_text
from duende.model.schedule import Moment, ScheduleConfig
from duende.runtime.timers import Timers
from duende.system.clock import Clock
from duende.system.clockset import ClockSetWatch

if TYPE_CHECKING:
    from duende.runtime.driver import Driver, Slot

__all__ = ["Schedules"]


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is waited for: the first slot that comes after `after`, or what the core makes of it (token 0)."""

    token: int
    after: Moment | None


class Schedules:
    """Owned by the manager. `follow` is called after every step of a daemon; `begin` once, when deciding has begun."""

    def __init__(
        self, driver: Driver, clock: Clock, unmet: Callable[[Slot], Iterable[str]], is_closing: Callable[[], bool]
    ) -> None:
        self._driver = driver
        self._clock = clock
        self._unmet = unmet
        self._is_closing = is_closing
        self._plans: dict[str, _Plan] = {}
        self._zones: dict[str | None, tzinfo] = {}
        self._tokens = itertools.count(1)
        self._timers = Timers(clock, self._due, self._is_live)
        self._watch: ClockSetWatch | None = None
        self._began = False

    def begin(self) -> None:
        """Plan the next run of each."""
        self._began = True
        for slot in list(self._driver.slots.values()):
            self.follow(slot)

    def close(self) -> None:
        """No more runs."""
        self._began = False
        self._timers.stop()
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    def follow(self, slot: Slot) -> None:
        """Its state may be another: plan anew, if its last slot is, and drop the plan if its schedule is suspended."""
        if slot.config.schedule is None or not self._began:
            return
        plan = self._plans.get(slot.config.name)
        if not slot.state.wanted or self._is_closing() or slot.config.name not in self._driver.slots:
            self._forget(slot)
        elif plan is None or plan.after != slot.state.slot:
            self._look(slot, slot.config.schedule)

    def clock_was_set(self) -> None:
        """Times of day are at other moments now."""
        for name in list(self._plans):
            self._look_again(name)

    # --- the question

    def _look(self, slot: Slot, config: ScheduleConfig) -> None:
        self._forget(slot)
        name, after = slot.config.name, slot.state.slot
        self._plans[name] = _Plan(0, after)
        zone = self._zone(config.timezone)
        now = Moment(self._clock.wall_s(), self._clock.boottime_s())
        if config.cron is not None and self._watch is None:
            self._watch = ClockSetWatch(self.clock_was_set)
        match assess(config, zone, str(slot.id), after, now):
            case Begin(at):
                self._driver.post(name, SlotPassed(after, at))
            case PassOver(at, text):
                self._driver.post(name, SlotPassed(after, at, text))
            case Run(at, text):
                label = time_text(at.wall_s, zone, today_s=now.wall_s)
                self._driver.post(name, RunDue(after, at, label, text, blocked=bool(self._unmet(slot))))
            case Wait(until):
                assert until.boot_s is not None
                plan = self._plans[name] = _Plan(next(self._tokens), after)
                slot.next_run_s = until.boot_s
                slot.next_run_text = time_text(until.wall_s, zone, today_s=now.wall_s)
                self._timers.arm(name, plan.token, until.boot_s)
        self._timers.plan()

    def _forget(self, slot: Slot) -> None:
        self._plans.pop(slot.config.name, None)
        slot.next_run_s, slot.next_run_text = None, ""

    def _due(self, name: str, token: int) -> None:
        self._look_again(name)

    def _look_again(self, name: str) -> None:
        self._plans.pop(name, None)
        if (slot := self._driver.slots.get(name)) is not None:
            self.follow(slot)

    def _is_live(self, name: str, token: int) -> bool:
        plan = self._plans.get(name)
        return plan is not None and plan.token == token and name in self._driver.slots

    def _zone(self, name: str | None) -> tzinfo:
        if name not in self._zones:
            self._zones[name] = zone_of(name)
        return self._zones[name]
