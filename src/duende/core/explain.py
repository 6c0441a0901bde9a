"""Why a daemon is as it is, what led there, what it waits for, what comes next, and what one can do. Pure.

`explain` sees what the manager sees: the lifecycle's states, who comes after whom, health, and recorded events. It says
nothing that is not in there. What comes next is the lifecycle's own answer (`duende.core.foresight`). Of a daemon that
waits, the whole chain is told down to those that wait for nothing: these are its `roots`, and what can be done is done
to them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, assert_never

from duende.core.advice import Advice, advice_for
from duende.core.causes import cause_text
from duende.core.fleet import condition_met
from duende.core.foresight import Coming, coming_to, in_order, next_run
from duende.core.state import DaemonState
from duende.model.condition import Condition
from duende.model.health import HealthStatus
from duende.model.status import DaemonStatus, FailureReason

__all__ = ["Explanation", "Subject", "Waiting", "explain"]

HISTORY_MAX = 10  # events that are told: a start, a few failures, and what came of them

_UNDER_WAY = (DaemonStatus.STARTING, DaemonStatus.RUNNING, DaemonStatus.PAUSED, DaemonStatus.BACKOFF)


@dataclass(frozen=True, slots=True)
class Subject:
    """All that is known of one daemon."""

    name: str
    state: DaemonState
    after: Mapping[str, Condition] = field(default_factory=dict)
    health: HealthStatus | None = None  # the latest answer, while it runs
    checks: tuple[Coming, ...] = ()  # what may be done to it while it runs
    consequences: tuple[Coming, ...] = ()  # what its end for good means to others
    becomes_ready: str = ""  # what makes it ready, in words
    autostart: bool = True
    is_scheduled: bool = False
    next_run_s: float | None = None  # of its schedule, on the boot-time clock
    next_run_text: str = ""
    says: str = ""  # of itself


@dataclass(frozen=True, slots=True)
class Waiting:
    """One that is waited for and is not there; `status` is None for one that the stack does not have."""

    name: str
    condition: Condition
    status: DaemonStatus | None
    why: str
    waits_for: tuple[Waiting, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The wire form."""
        return {
            "name": self.name, "condition": self.condition.value, "status": self.status.value if self.status else None,
            "why": self.why, "waits_for": [one.to_json() for one in self.waits_for],
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer. `history` is oldest first."""

    name: str
    status: DaemonStatus
    why: str
    waits_for: tuple[Waiting, ...]
    history: tuple[Mapping[str, Any], ...]
    coming: tuple[Coming, ...]
    advice: tuple[Advice, ...]

    def to_json(self) -> dict[str, Any]:
        """The wire form."""
        return {
            "name": self.name, "status": self.status.value, "why": self.why,
            "waits_for": [one.to_json() for one in self.waits_for], "history": [dict(one) for one in self.history],
            "next": [one.to_json() for one in self.coming], "can_do": [one.to_json() for one in self.advice],
        }  # fmt: skip


def explain(
    name: str, subjects: Mapping[str, Subject], events: Sequence[Mapping[str, Any]], *, now_s: float,
    is_shutting_down: bool = False,
) -> Explanation:  # fmt: skip
    """Explain the daemon `name`; `events` are its own, oldest first, and `subjects` the whole stack."""
    subject = subjects[name]
    waits_for = _waits_for(subject, subjects, {name}) if _waits(subject.state) else ()
    why = _why(subject, waits_for)
    if is_shutting_down:
        why += "; the whole stack is being stopped (`duende down`)"
    roots = tuple(_roots(waits_for))
    others = [subjects[root.name] for root in roots if root.status]
    return Explanation(
        name, subject.state.status, why, waits_for,
        history=tuple(_told(event) for event in _worth_telling(events)[-HISTORY_MAX:]),
        coming=_coming(subject, () if is_shutting_down else waits_for, others, now_s),
        advice=_advice(subject, roots, subjects),
    )  # fmt: skip


def _advice(subject: Subject, roots: Sequence[Waiting], subjects: Mapping[str, Subject]) -> tuple[Advice, ...]:
    """For one that waits, what can be done about those that it waits for in the end."""
    found: list[Advice] = []
    for root in roots:
        if root.status is None:
            found.append(Advice("duende check", f"say what is wrong with the configuration: there is no {root.name}"))
        else:
            other = subjects[root.name]
            found += advice_for(other.name, other.state, other.health, awaited=root.condition)
    return (*found, *advice_for(subject.name, subject.state, subject.health))


# --- what it waits for


def _waits(state: DaemonState) -> bool:
    return state.waiting and state.wanted


def _waits_for(subject: Subject, subjects: Mapping[str, Subject], told: set[str]) -> tuple[Waiting, ...]:
    """What is not there; each daemon's own reasons are told once, where it is first met."""
    found = []
    for name, condition in subject.after.items():
        other = subjects.get(name)
        if other is None:
            found.append(Waiting(name, condition, None, "there is no such daemon in this stack"))
            continue
        if condition_met(condition, other.state, other.health is not None and other.health.is_healthy):
            continue
        deeper: tuple[Waiting, ...] = ()
        if name not in told and _waits(other.state):
            told.add(name)
            deeper = _waits_for(other, subjects, told)
        found.append(Waiting(name, condition, other.state.status, _why_not(other, condition, deeper), deeper))
    return tuple(found)


def _why_not(other: Subject, condition: Condition, deeper: Sequence[Waiting]) -> str:
    """Why it is not what is waited for. What completes can only be waited for, and so can a check's answer."""
    up = other.state.executed and other.state.status in (DaemonStatus.RUNNING, DaemonStatus.PAUSED)
    if condition is Condition.COMPLETED and up:
        return "it runs and has not completed yet"
    if condition is Condition.HEALTHY and up and other.state.ready and not other.health:
        return "it runs, and its health check has not answered yet"
    return _why(other, deeper)


def _roots(waits_for: Sequence[Waiting]) -> Iterator[Waiting]:
    """Those at the bottom, each once."""
    seen: set[str] = set()
    rest = list(reversed(waits_for))
    while rest:
        one = rest.pop()
        if one.waits_for:
            rest.extend(reversed(one.waits_for))
        elif one.name not in seen:
            seen.add(one.name)
            yield one


# --- why


def _why(subject: Subject, waits_for: Sequence[Waiting]) -> str:
    state = subject.state
    if _waits(state) and not state.status.has_instance:
        names = ", ".join(f"{one.name} ({one.condition.value})" for one in waits_for)
        ended = f"; before that: {state.exit.message}" if state.exit else ""
        return f"it waits for {names}{ended}" if names else f"what it waited for is there: it is about to start{ended}"
    match state.status:
        case DaemonStatus.CREATED:
            return _why_created(subject)
        case DaemonStatus.STARTING if not state.executed:
            return "its process is being made"
        case DaemonStatus.STARTING:
            awaited = f": it will be when {subject.becomes_ready}" if subject.becomes_ready else ""
            return f"its process is executed, and it is not ready yet{awaited}{_says(subject)}"
        case DaemonStatus.RUNNING:
            return _why_running(subject)
        case DaemonStatus.PAUSED:
            return "somebody has sent it SIGSTOP: it stands still until it gets SIGCONT"
        case DaemonStatus.STOPPING:
            return _why_stopping(state, waits_for)
        case DaemonStatus.STOPPED:
            return _why_stopped(subject)
        case DaemonStatus.BACKOFF:
            rules = state.policy.restart
            return f"{_ended(state)}; its restart policy ({rules.policy.value}) says that it is tried again"
        case DaemonStatus.FAILED:
            return f"{_ended(state)}; duende has given up on it: {_reason(state)}"
    assert_never(state.status)


def _why_created(subject: Subject) -> str:
    if subject.is_scheduled and subject.state.wanted:
        return "it runs on its schedule, and has not run yet"
    if not subject.autostart:
        return "it does not start with the stack (autostart = false), and nobody has asked for it"
    return "nobody has asked for it yet"


def _why_running(subject: Subject) -> str:
    if not subject.state.ready:
        cause = f": {subject.state.unready_cause}" if subject.state.unready_cause else ""
        return f"its process runs, but it is not ready any more{cause}"
    if subject.health is not None and not subject.health.is_healthy:
        return f"its process runs, but it is unhealthy: {subject.health.reason}"
    return "its process runs and it is ready" + _says(subject)


def _why_stopping(state: DaemonState, waits_for: Sequence[Waiting]) -> str:
    if state.stop_cause:
        why = f"duende stops it: {state.stop_cause}"
    elif state.kill_asked:
        why = "its end was asked for, at once"
    elif state.start_again:
        why = "a new start was asked for, and this incarnation has to end first"
    elif state.wanted:
        why = "the stack is being stopped, and it with it"
    else:
        why = "somebody has asked for a stop"
    if not state.executed:
        why += "; the platform has not said yet whether it exists"
    elif state.escalated or state.kill_asked:
        why += "; it has been sent SIGKILL and is still there"
    else:
        ladder = state.policy.ladder
        rung = min(state.stop_step, len(ladder) - 1)
        of_several = f", step {rung + 1} of {len(ladder)}" if len(ladder) > 1 else ""
        why += f"; it has been asked by {ladder[rung]}{of_several}"
    waiting = ", ".join(f"{one.name} ({one.condition.value})" for one in waits_for)
    return f"{why}; after that it waits for {waiting}" if waiting else why


def _why_stopped(subject: Subject) -> str:
    state = subject.state
    if state.completed:
        return f"it has done its work: {_ended(state)}"
    last = f"; its last end: {_ended(state)}" if state.exit else ""
    if subject.is_scheduled:
        text = "it is between two runs" if state.wanted else "its schedule is suspended, since somebody stopped it"
    elif state.wanted:  # so the next `up` starts it
        text = "it was stopped with the stack, for now"
    else:
        text = "somebody has stopped it, and so it stays"
    return text + last


def _reason(state: DaemonState) -> str:
    rules = state.policy.restart
    match state.failure:
        case None:
            return "for a reason that is not recorded"
        case FailureReason.EXITED:
            return f"its restart policy is {rules.policy.value}"
        case FailureReason.PERMANENT_EXIT:
            return "no restart mends that exit code (restart.permanent_exit_codes)"
        case FailureReason.MAX_RETRIES:
            limit = rules.backoff.max_retries
            return f"{limit} restarts in a row without a run of {rules.reset_after:g} s (restart.max_retries)"
        case FailureReason.CRASH_LIMIT:
            return f"{rules.crash_limit} failures within {rules.crash_window:g} s (restart.crash_limit)"
        case FailureReason.NOT_EXECUTABLE:
            return "what can't be executed now can't be executed later"
        case FailureReason.REFUSED:
            return "it was refused before its start, and would be again"
    assert_never(state.failure)


def _ended(state: DaemonState) -> str:
    return state.exit.message if state.exit is not None else "it ended, and nobody knows how"


def _says(subject: Subject) -> str:
    return f"; it says: {subject.says}" if subject.says else ""


# --- what led here, and what comes


def _worth_telling(events: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Without the change of status that a final failure has told already."""
    return [
        event
        for before, event in zip((None, *events), events, strict=False)
        if before is None or before["kind"] != "failed" or (event["kind"], event["status"]) != ("status", "failed")
    ]


def _told(event: Mapping[str, Any]) -> dict[str, Any]:
    """An event with its cause in words."""
    keys = ("seq", "time", "kind", "status", "message")
    return {**{key: event[key] for key in keys}, "because": cause_text(event)}


def _coming(
    subject: Subject, waits_for: Sequence[Waiting], roots: Collection[Subject], now_s: float
) -> tuple[Coming, ...]:
    found = list(coming_to(subject.state, now_s=now_s))
    if subject.state.executed and subject.state.status is DaemonStatus.RUNNING:
        found += subject.checks
    if subject.state.status in _UNDER_WAY:
        found += subject.consequences
    if subject.next_run_s is not None:
        found.append(next_run(subject.state, in_s=subject.next_run_s - now_s, text=subject.next_run_text))
    found = in_order(found)
    if waits_for and not subject.state.status.has_instance:
        met = " and ".join(f"{one.name} is {one.condition.value}" for one in waits_for)
        found.append(Coming("it is started", condition=f"as soon as {met}"))
    for root in roots:
        its_own = coming_to(root.state, now_s=now_s)
        found += [replace(one, daemon=root.name) for one in its_own if one.in_s is not None]
    return tuple(found) or (Coming("nothing: it stays like this until somebody asks for something else"),)
