"""Readiness had, lost and had again, and a signal in the place of a restart. Pure parts of the lifecycle.

A daemon that was ready once stays `running` whatever its readiness does later: only `ready` changes, so that those who
wait for it see it, and nobody is killed for it.
"""

from __future__ import annotations

from dataclasses import replace

from duende.core.deadlines import disarm
from duende.core.effects import Note, NoteKind, SendSignal
from duende.core.events import BecameReady, BecameUnhealthy, BecameUnready, SaidReady
from duende.core.state import DaemonState, TimerKind
from duende.model.exits import ExitInfo
from duende.model.status import DaemonStatus

__all__ = ["became_ready", "became_unready", "blamed", "said_ready", "strike"]


def became_ready(state: DaemonState, event: BecameReady, now_s: float) -> tuple[DaemonState, tuple[Note, ...]]:
    """Its readiness is there: for the first time, which ends its start, or again."""
    if state.ready:
        return state, ()
    if not state.executed:  # its word has overtaken the platform's: it counts when `Spawned` arrives
        return replace(state, ready=True), ()
    status = DaemonStatus.PAUSED if state.status is DaemonStatus.PAUSED else DaemonStatus.RUNNING
    notes = () if state.ready_s is None else (Note(NoteKind.READY, "ready again"),)
    ready = replace(disarm(state, TimerKind.START), status=status, ready=True, unready_cause="", ready_s=now_s)
    return ready, notes


def said_ready(state: DaemonState, event: SaidReady) -> tuple[DaemonState, tuple[Note, ...]]:
    """Its own word is there, its probes' is not."""
    return (state if state.said_ready else replace(state, said_ready=True)), ()


def became_unready(state: DaemonState, event: BecameUnready) -> tuple[DaemonState, tuple[Note, ...]]:
    """Its readiness is lost for now."""
    if not state.ready:
        return state, ()
    return replace(state, ready=False, unready_cause=event.reason), (Note(NoteKind.UNREADY, event.reason),)


def strike(state: DaemonState, event: BecameUnhealthy) -> tuple[DaemonState, tuple[Note | SendSignal, ...]]:
    """It gets a signal. What it makes of that is its own affair; if it dies of it, its exit says why it was sent."""
    assert event.signal is not None
    cause = f"unhealthy: {event.reason}"
    effects = (Note(NoteKind.UNHEALTHY, cause), SendSignal(state.instance, event.signal, False))
    return replace(state, struck=(event.signal, cause)), effects


def blamed(state: DaemonState, exit_info: ExitInfo) -> ExitInfo:
    """The exit, with the reason of the signal that it died of, where that was ours."""
    if state.struck is None or exit_info.signal != state.struck[0]:
        return exit_info
    return replace(exit_info, message=f"{state.struck[1]}; {exit_info.message}")
