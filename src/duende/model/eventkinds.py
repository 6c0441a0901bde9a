"""Every kind of event that the log may hold, once: what it tells, and what its cause and data say.

Hooks choose by these words, `duende check` knows them, and docs/reference/events.md is made from this table. A test
compares it with what the code records.
"""

from __future__ import annotations

from dataclasses import dataclass

from duende.model.status import DaemonStatus

__all__ = ["EVENT_KINDS", "EventKind", "known_words", "words_of"]


@dataclass(frozen=True, slots=True)
class EventKind:
    """One kind. `is_alert`: it tells trouble or its end, and only once for each trouble."""

    name: str
    about: str
    is_alert: bool = False


EVENT_KINDS = (
    EventKind(
        "status",
        "The daemon's status changed, or a new incarnation began. The event's `status` is the new one and the message "
        "says why, as in `exited with code 1`. Hooks may choose one status: `status:stopped`.",
    ),
    EventKind(
        "waiting",
        "It is wanted, and what it comes after is not there yet. `data.waits_for` has these with their conditions.",
    ),
    EventKind(
        "dependencies-met",
        "What it waited for is there, so it is started. `data.last` is the daemon that came last, `data.condition` "
        "what it had to be. `duende graph --chain` is made of these.",
    ),
    EventKind(
        "failed",
        "It has finally failed and is not started again by itself: crash limit, retries used up, permanent exit code, "
        "not executable, refused. Told at the end of all retries, not at each.",
        is_alert=True,
    ),
    EventKind(
        "crash-loop",
        "It was restarted five times in a row without a stable run between, and is tried on. Told once a row.",
        is_alert=True,
    ),
    EventKind(
        "oom",
        "The kernel killed it for want of memory. Told once until it has run stably again.",
        is_alert=True,
    ),
    EventKind(
        "recovered",
        "After `failed`, `crash-loop` or `oom`: it has been ready for `restart.reset_after` without a break, or has "
        "ended with success.",
        is_alert=True,
    ),
    EventKind(
        "unhealthy",
        "Its health check or liveness probe failed often enough, or its watchdog heard nothing. Told once until it is "
        "healthy again.",
        is_alert=True,
    ),
    EventKind("healthy", "Its health check passes again.", is_alert=True),
    EventKind("unready", "Its readiness was lost; it runs on, and what waits for it is not started."),
    EventKind("ready", "After `unready`: it is ready again."),
    EventKind("start-timeout", "It did not become ready within `start_timeout` and is stopped for that."),
    EventKind("stop-step", "The stop ladder goes on to its next step; the message says why."),
    EventKind("escalated", "It did not stop in its time, so SIGKILL followed; or it outlived even that."),
    EventKind("missed", "Slots of its schedule passed while nobody could act."),
    EventKind("overlap", "A slot of its schedule came while the run before it was not over."),
    EventKind("asked", "A hook or `on_failure` asks for its start; the cause says for which event."),
    EventKind("daemon-status", "What the daemon says of itself (sd_notify `STATUS=`)."),
    EventKind("daemon-failed", "A Python class says why it can't go on; the message has its error."),
    EventKind(
        "alert",
        "Something of duende's own is in trouble: the state database or a log can't be written, a process can't be "
        "killed, a hook does not deliver (`data.hook`). Told once until it is over.",
        is_alert=True,
    ),
    EventKind("alert-cleared", "The end of an `alert`.", is_alert=True),
    EventKind("manager", "A manager has started, or has taken over from one that ended without its daemons."),
    EventKind("test", "Not in the log: `duende hooks test NAME` sends it to one hook."),
)


def words_of(kind: str, status: str | None) -> tuple[str, ...]:
    """The words by which hooks can choose an event."""
    return (kind, f"status:{status}") if kind == "status" else (kind,)


def known_words() -> tuple[str, ...]:
    """All such words."""
    return (*(kind.name for kind in EVENT_KINDS), *(f"status:{status.value}" for status in DaemonStatus))
