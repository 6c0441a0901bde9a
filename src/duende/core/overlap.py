"""What a slot of a schedule means for a daemon where it stands: run, replace, queue or leave out. Pure.

The lifecycle asks, and does what is answered: it alone spawns and stops. A slot is noted in the same step that acts on
it, and only when it comes after the last one that was noted, so no slot is acted on twice.
"""

from __future__ import annotations

import enum
from dataclasses import replace

from duende.core.effects import Note, NoteKind
from duende.core.events import RunDue, SlotPassed
from duende.core.state import DaemonState
from duende.model.schedule import Overlap
from duende.model.status import DaemonStatus

__all__ = ["Then", "Verdict", "run_due", "slot_passed", "without_schedule"]


class Then(enum.Enum):
    """What the lifecycle does with the state that comes with it."""

    NOTHING = "nothing"
    SPAWN = "spawn"  # a new row of attempts
    STOP = "stop"  # and start again


Verdict = tuple[DaemonState, tuple[Note, ...], Then]


def run_due(state: DaemonState, event: RunDue) -> Verdict:
    """A slot has come. A state that is handed back as it was: the event means nothing here."""
    if not _is_next_slot(state, event):
        return state, (), Then.NOTHING
    if state.waiting:
        return _left_out(state, event, "the one before it still waits to start")
    if state.status is DaemonStatus.STOPPING:
        return _while_stopping(state, event)
    if state.status.has_instance:
        return _while_running(state, event)
    fresh = replace(state, slot=event.slot, completed=False, attempt=0, failures_s=())
    missed = (Note(NoteKind.MISSED, event.text),) if event.text else ()
    if event.blocked:
        return replace(fresh, waiting=True, timers=()), missed, Then.NOTHING
    return fresh, missed, Then.SPAWN


def slot_passed(state: DaemonState, event: SlotPassed) -> Verdict:
    """Slots are dealt with and nothing runs for them."""
    if not _is_next_slot(state, event):
        return state, (), Then.NOTHING
    return replace(state, slot=event.slot), (Note(NoteKind.MISSED, event.text),) if event.text else (), Then.NOTHING


def without_schedule(state: DaemonState) -> DaemonState:
    """Nobody wants it any more: when somebody does again, counting begins anew."""
    if state.wanted or not (state.slot or state.queued):
        return state
    return replace(state, slot=None, queued=False)


def _is_next_slot(state: DaemonState, event: RunDue | SlotPassed) -> bool:
    return state.wanted and state.policy.overlap is not None and event.after == state.slot


def _while_running(state: DaemonState, event: RunDue) -> Verdict:
    if state.policy.overlap is not Overlap.REPLACE:
        return _skip_or_queue(state, event)
    replaced = replace(state, slot=event.slot, start_again=True, attempt=0, failures_s=())
    return replaced, (Note(NoteKind.OVERLAP, f"stopped for the run of {event.label}"),), Then.STOP


def _while_stopping(state: DaemonState, event: RunDue) -> Verdict:
    if not (state.start_again or state.stop_cause):
        return _left_out(state, event, "it is being stopped")
    if state.policy.overlap is not Overlap.REPLACE:
        return _skip_or_queue(state, event)
    replaced = replace(state, slot=event.slot, start_again=True, stop_cause="", attempt=0, failures_s=())
    return replaced, (), Then.NOTHING


def _skip_or_queue(state: DaemonState, event: RunDue) -> Verdict:
    if state.policy.overlap is not Overlap.QUEUE:
        return _left_out(state, event, "the one before it still runs")
    if state.queued:
        return _left_out(state, event, "one is queued already")
    text = f"the run of {event.label} follows when the one before it has ended"
    return replace(state, slot=event.slot, queued=True), (Note(NoteKind.OVERLAP, text),), Then.NOTHING


def _left_out(state: DaemonState, event: RunDue, why: str) -> Verdict:
    note = Note(NoteKind.OVERLAP, f"the run of {event.label} is left out: {why}")
    return replace(state, slot=event.slot), (note,), Then.NOTHING
