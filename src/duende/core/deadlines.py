"""Deadlines in a daemon's state: set, dropped, and moved on at the daemon's own request. Pure."""

from __future__ import annotations

from dataclasses import replace

from duende.core.effects import ArmTimer
from duende.core.events import TimeAskedFor
from duende.core.state import DaemonState, Timer, TimerKind
from duende.model.status import DaemonStatus

__all__ = ["arm", "disarm", "extend"]

_EXTENDED = {DaemonStatus.STARTING: TimerKind.START, DaemonStatus.STOPPING: TimerKind.STOP}


def arm(state: DaemonState, kind: TimerKind, deadline_s: float) -> tuple[DaemonState, tuple[ArmTimer, ...]]:
    """Set it, in the place of an earlier one of its kind."""
    timer = Timer(kind, state.next_token, deadline_s)
    timers = (*disarm(state, kind).timers, timer)
    return replace(state, timers=timers, next_token=state.next_token + 1), (ArmTimer(timer.token, deadline_s),)


def disarm(state: DaemonState, kind: TimerKind) -> DaemonState:
    """Drop it: its token means nothing any more."""
    return replace(state, timers=tuple(timer for timer in state.timers if timer.kind is not kind))


def extend(state: DaemonState, event: TimeAskedFor) -> tuple[DaemonState, tuple[ArmTimer, ...]]:
    """The daemon asks for more time (EXTEND_TIMEOUT_USEC of sd_notify(3)); what it has already is never cut short."""
    timer = state.timer(_EXTENDED[state.status])
    if timer is None or event.until_s <= timer.deadline_s:
        return state, ()
    return arm(state, timer.kind, event.until_s)
