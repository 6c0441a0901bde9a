"""When is trouble worth waking somebody? Pure, beside the lifecycle: what was told of one daemon, and what is news.

A daemon in backoff tells nothing. `failed`, `crash-loop` and `oom` are each told once a row: until the daemon has been
ready for its policy's `reset_after`, which `recovered` tells, or is started or stopped by hand. `unhealthy` is told
once until it is healthy again, also over restarts. A `failed` that is no news is in the log all the same, marked
`again`: hooks skip it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from duende.core.effects import Note, NoteKind
from duende.core.events import Event, RestartRequested, StartRequested
from duende.core.state import DaemonState
from duende.model.exits import ExitReason
from duende.model.status import DaemonStatus

__all__ = ["CRASH_LOOP_AFTER", "Alarm", "after_step", "after_stable_run", "is_news", "on_health", "stable_at_s"]

CRASH_LOOP_AFTER = 5  # restarts in a row; systemd's DefaultStartLimitBurst

_UNHEALTHY = NoteKind.UNHEALTHY.value
_TROUBLES = (NoteKind.FAILED.value, NoteKind.CRASH_LOOP.value, NoteKind.OOM.value)


@dataclass(frozen=True, slots=True)
class Alarm:
    """`told`: kinds that are no news any more. `owes_recovered`: somebody was alarmed and waits for the good news."""

    told: frozenset[str] = frozenset()
    owes_recovered: bool = False

    def to_json(self) -> dict[str, Any]:
        """As it is stored beside the state."""
        return {"told": sorted(self.told), "owes_recovered": self.owes_recovered}

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | None) -> Alarm:
        """Undo `to_json`; nothing was told where an older manager stored nothing."""
        return cls(frozenset(data["told"]), bool(data["owes_recovered"])) if data else cls()


def after_step(
    alarm: Alarm, before: DaemonState, after: DaemonState, event: Event
) -> tuple[Alarm, tuple[Note, ...], frozenset[str]]:
    """What a step of the lifecycle means: the alarm after it, what to tell besides, and what is told again."""
    if after is before:
        return alarm, (), frozenset()
    if isinstance(event, StartRequested | RestartRequested):  # by hand: if it fails again, that is worth telling
        return replace(alarm, told=alarm.told - frozenset(_TROUBLES)), (), frozenset()
    if after.status is DaemonStatus.STOPPED and not after.completed and not after.wanted:
        return Alarm(), (), frozenset()  # by hand: whoever did it knows
    if after.completed and not before.completed and alarm.owes_recovered:
        return Alarm(), (Note(NoteKind.RECOVERED, f"it has completed: {_ended(after)}"),), frozenset()
    found = {kind.value: text for kind, text in _troubles(before, after)}
    again = frozenset(found) & alarm.told
    notes = tuple(
        Note(NoteKind(kind), text)
        for kind, text in found.items()
        if kind not in again and kind != NoteKind.FAILED.value  # that one is the lifecycle's own note
    )
    if found:
        alarm = Alarm(alarm.told | found.keys(), owes_recovered=True)
    return alarm, notes, again


def _troubles(before: DaemonState, after: DaemonState) -> list[tuple[NoteKind, str]]:
    found = []
    ended = after.exit is not None and after.exit is not before.exit
    if ended and after.exit is not None and after.exit.reason is ExitReason.RESOURCE_EXHAUSTED:
        found.append((NoteKind.OOM, _ended(after)))
    if after.status is DaemonStatus.FAILED and before.status is not DaemonStatus.FAILED:
        found.append((NoteKind.FAILED, _ended(after)))
    elif ended and after.attempt >= CRASH_LOOP_AFTER and after.attempt > before.attempt:
        text = f"restarted {after.attempt} times in a row without a stable run, last: {_ended(after)}"
        found.append((NoteKind.CRASH_LOOP, text))
    return found


def _ended(state: DaemonState) -> str:
    return state.exit.message if state.exit is not None else ""


def stable_at_s(alarm: Alarm, state: DaemonState) -> float | None:
    """When it will have recovered, if it goes on as now; None when nobody waits for that, or it does not run."""
    if not alarm.owes_recovered or state.status is not DaemonStatus.RUNNING or state.ready_s is None:
        return None
    return state.ready_s + state.policy.restart.reset_after if state.ready else None


def after_stable_run(alarm: Alarm, state: DaemonState) -> tuple[Alarm, Note]:
    """`stable_at_s` has come."""
    text = f"has run stably for {state.policy.restart.reset_after:g} s"
    return Alarm(alarm.told & {_UNHEALTHY}), Note(NoteKind.RECOVERED, text)


def on_health(alarm: Alarm, *, healthy: bool, settled: bool) -> tuple[Alarm, bool]:
    """A health check's answer; whether it is news. `settled`: the checks agree that this is a change."""
    if healthy:
        return replace(alarm, told=alarm.told - {_UNHEALTHY}), settled or _UNHEALTHY in alarm.told
    if not settled:
        return alarm, False
    return replace(alarm, told=alarm.told | {_UNHEALTHY}), _UNHEALTHY not in alarm.told


def is_news(again: frozenset[str], note: Note, alarm: Alarm) -> bool:
    """Whether a note of the lifecycle is the first of its trouble. That it is unhealthy, the check has told before."""
    return note.kind.value not in again and not (note.kind is NoteKind.UNHEALTHY and _UNHEALTHY in alarm.told)
