"""What will happen next to a daemon, and when, if nothing else does. Pure.

Nothing of the lifecycle is told a second time here: each thing that may come is an event, `step` is asked what it would
lead to, and the answer is put into words. So what is foretold is what will be done.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, assert_never

from duende.core.events import Event, Exited, Spawned, TimerFired
from duende.core.lifecycle import step
from duende.core.state import DaemonState, Timer, TimerKind
from duende.model.exits import ExitInfo
from duende.model.schedule import Overlap
from duende.model.status import DaemonStatus

__all__ = ["Coming", "coming_to", "in_order", "next_run"]

_MIDDLE = 0.5  # chance that gives the delay without jitter


@dataclass(frozen=True, slots=True)
class Coming:
    """What comes in so many seconds (None: no time is set), under `condition`, a clause such as `if it fails now`; to
    which daemon, if to another.
    """

    what: str
    in_s: float | None = None
    condition: str = ""
    daemon: str = ""

    def to_json(self) -> dict[str, Any]:
        """The wire form."""
        in_s = None if self.in_s is None else round(self.in_s, 3)
        return {"what": self.what, "in_s": in_s, "condition": self.condition, "daemon": self.daemon or None}


def coming_to(state: DaemonState, *, now_s: float) -> tuple[Coming, ...]:
    """Everything that the state alone foretells, in order."""
    return tuple(in_order([*_timers(state, now_s), *_ends(state, now_s), *_memories(state, now_s)]))


def in_order(found: Iterable[Coming]) -> list[Coming]:
    """Those with a time first, by their time."""
    return sorted(found, key=lambda one: (one.in_s is None, one.in_s or 0.0))


# --- deadlines


def _timers(state: DaemonState, now_s: float) -> Iterator[Coming]:
    for timer in state.timers:
        after = _then(state, TimerFired(timer.token), timer.deadline_s)
        what, condition = _timer_text(state, timer, after)
        yield Coming(what, max(timer.deadline_s - now_s, 0.0), condition)
        if timer.kind is TimerKind.BACKOFF:
            yield _if_it_fails_again(after, timer.deadline_s)


def _timer_text(state: DaemonState, timer: Timer, after: DaemonState) -> tuple[str, str]:
    match timer.kind:
        case TimerKind.BACKOFF:
            return f"it is started again (try {state.attempt + 1} of this row)", ""
        case TimerKind.RETRY:
            return "it is tried anew, with a new row of attempts (retry_in)", ""
        case TimerKind.START:
            rung = after.policy.ladder[0]
            return (
                f"its start has failed ({after.stop_cause}): it is asked to end by {rung}",
                "if it is not ready by then",
            )
        case TimerKind.STOP:
            step_text = "SIGKILL, to all of it" if after.escalated else str(after.policy.ladder[after.stop_step])
            return f"the next step of its stop: {step_text}", "if it has not ended by then"
        case TimerKind.KILL:
            return "SIGKILL again, and an event that says so", "if the kernel has not ended it by then"
    assert_never(timer.kind)


def _if_it_fails_again(started: DaemonState, at_s: float) -> Coming:
    running = _then(started, Spawned(started.instance, awaits_ready=False), at_s)
    text = _outcome(_then(running, Exited(running.instance, _failing_exit(running)), at_s), at_s)
    return Coming(text, condition="if it then fails again at once")


# --- ends that may come


def _ends(state: DaemonState, now_s: float) -> Iterator[Coming]:
    if not state.status.has_instance:
        return
    if not state.executed:
        yield Coming(
            "it is ended, as was asked for" if state.status is DaemonStatus.STOPPING else "its process is executed",
            condition="when the platform has answered",
        )
    elif state.status is DaemonStatus.STOPPING:
        after = _then(state, Exited(state.instance, ExitInfo.from_signal(state.policy.stop_signal)), now_s)
        yield Coming(_outcome(after, now_s), condition="when it has ended")
    else:
        code = min(state.policy.restart.success_exit_codes, default=0)
        for word, end in ((f"ends with code {code}", ExitInfo.from_code(code)), ("fails", _failing_exit(state))):
            yield Coming(
                _outcome(_then(state, Exited(state.instance, end), now_s), now_s), condition=f"if it {word} now"
            )


def _failing_exit(state: DaemonState) -> ExitInfo:
    """An exit that is a failure, but not one that no restart mends."""
    rules = state.policy.restart
    special = rules.success_exit_codes | rules.permanent_exit_codes | {0}
    return ExitInfo.from_code(next(code for code in range(1, 257) if code not in special))


def _outcome(state: DaemonState, now_s: float) -> str:
    """Where it stands after its end, as what happens then."""
    match state.status:
        case DaemonStatus.STARTING:
            return "it is started again at once"
        case DaemonStatus.BACKOFF:
            in_s = max((state.next_start_s or now_s) - now_s, 0.0)
            return f"it is started again after {_about(in_s)}{' or so' if state.policy.restart.backoff.jitter else ''}"
        case DaemonStatus.FAILED:
            reason = state.failure.value if state.failure else "unknown"
            retry = state.timer(TimerKind.RETRY)
            then = f", and tries anew after {_about(retry.deadline_s - now_s)}" if retry else ""
            return f"duende gives up on it ({reason}){then}"
        case DaemonStatus.STOPPED if state.completed:
            return "it counts as completed and is not started again"
        case DaemonStatus.STOPPED if state.waiting:
            return "it waits for what it comes after, and is started then"
        case DaemonStatus.STOPPED if state.wanted:
            return "it stays stopped until the stack is started (`duende up`)"
        case _:
            return "it stays stopped until it is started by name"


def _about(seconds: float) -> str:
    return f"{seconds:.3g} s"


# --- what is forgotten in time


def _memories(state: DaemonState, now_s: float) -> Iterator[Coming]:
    """The row of attempts and the crash window: what a failure would be counted with."""
    rules = state.policy.restart
    if state.status is DaemonStatus.RUNNING and state.ready_s is not None and state.attempt:
        left_s = state.ready_s + rules.reset_after - now_s
        if left_s > 0:
            yield Coming(f"its run counts as stable: its row of {_restarts(state.attempt)} is forgotten", left_s)
    recent = [at_s for at_s in state.failures_s if now_s - at_s < rules.crash_window]
    if rules.crash_limit and recent and (state.status.has_instance or state.status is DaemonStatus.BACKOFF):
        text = f"the oldest of {len(recent)} failures leaves the crash window (limit {rules.crash_limit})"
        yield Coming(text, recent[0] + rules.crash_window - now_s)


def _restarts(count: int) -> str:
    return f"{count} restart" if count == 1 else f"{count} restarts"


def _then(state: DaemonState, event: Event, at_s: float) -> DaemonState:
    return step(state, event, now_s=at_s, uniform=_MIDDLE)[0]


def next_run(state: DaemonState, *, in_s: float, text: str) -> Coming:
    """The next slot of its schedule, and what it means while a run is not over."""
    run = f"a run of its schedule is due ({text})"
    if not state.status.has_instance:
        return Coming(run, max(in_s, 0.0))
    overlap = {
        Overlap.SKIP: "is left out", Overlap.QUEUE: "follows when this one has ended",
        Overlap.REPLACE: "takes the place of this one",
    }[state.policy.overlap or Overlap.SKIP]  # fmt: skip
    return Coming(f"{run}; if this one is not over by then, that {overlap}", max(in_s, 0.0))
