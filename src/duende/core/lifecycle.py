"""The life of one daemon, as one function: `step(state, event, *, now_s, uniform) -> (state, effects)`.

Theory of operation. A daemon is *wanted* or not; that is the user's word and only the user changes it. Its *status*
says where it stands. Every start is a new *incarnation* with the next number, and every event about an incarnation
carries its number, so an answer that comes too late is recognised and dropped. At most one incarnation exists at a
time: only a state without one asks for `Spawn`, and a state with one is only left by `Exited` or `SpawnFailed`.

A spawn takes time. Until the platform has answered (`executed`), nothing can be signalled: a stop that comes earlier
waits in STOPPING and is carried out when `Spawned` arrives. A stop climbs a ladder of signals and commands, each with a
timer; after the last the whole tree gets SIGKILL, and that is noted. Every end of an incarnation that nobody asked for
goes through `_decide`, the only place where restarts are decided: by policy, exit code, crash window, retries in a row,
backoff.

A daemon with a schedule has a run per slot (`duende.core.schedule` says when, `duende.core.overlap` what a slot means
while it runs). *Wanted* then means that its schedule counts. `RunDue` begins a new row of attempts, also in BACKOFF.

A timer is never cancelled: it is dropped from the state, and its token means nothing any more.

TABLE lists every pair of status and event that does something, with the states it can lead to; all others change
nothing. The diagram and the table in docs/reference/lifecycle.md are made from it by `duende.core.diagram`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from duende.core.deadlines import arm as _arm
from duende.core.deadlines import disarm as _disarm
from duende.core.deadlines import extend
from duende.core.effects import ArmTimer, Effect, KillTree, Note, NoteKind, RunStopCommand, SendSignal, Spawn
from duende.core.events import (
    BecameReady,
    BecameUnhealthy,
    BecameUnready,
    Continued,
    DependenciesMet,
    Event,
    Exited,
    KillRequested,
    Paused,
    PolicyChanged,
    RestartRequested,
    RunDue,
    SaidReady,
    ScheduleResumed,
    SlotPassed,
    Spawned,
    SpawnFailed,
    StartRequested,
    StopRequested,
    StopStepFailed,
    TimeAskedFor,
    TimerFired,
)
from duende.core.overlap import Then, run_due, slot_passed, without_schedule
from duende.core.readiness import became_ready, became_unready, blamed, said_ready, strike
from duende.core.state import DaemonState, TimerKind
from duende.model.exits import ExitInfo, ExitReason
from duende.model.restart import RestartPolicy
from duende.model.signals import Signal
from duende.model.status import DaemonStatus, FailureReason

__all__ = ["TABLE", "Row", "step", "stop_effect"]

Outcome = tuple[DaemonState, tuple[Effect, ...]]

# How long SIGKILL may take before we say so and try again: a process in uninterruptible sleep (state D) obeys only when
# its system call returns. systemd waits its TimeoutStopSec once more; we keep trying and keep telling.
KILL_RETRY_S = 5.0

_CREATED, _STARTING, _RUNNING, _PAUSED, _STOPPING, _STOPPED, _BACKOFF, _FAILED = DaemonStatus


@dataclass(frozen=True, slots=True)
class Row:
    """What happens on one pair, and where it may lead."""

    handle: Callable[[DaemonState, Event, float, float], Outcome]
    leads_to: frozenset[DaemonStatus]


def step(state: DaemonState, event: Event, *, now_s: float, uniform: float) -> Outcome:
    """Decide what `event` means. `now_s` is the boot-time clock in seconds, `uniform` a random number in [0, 1)."""
    if isinstance(event, PolicyChanged):
        return replace(state, policy=event.policy), ()
    if isinstance(event, SlotPassed):
        return slot_passed(state, event)[:2]
    row = TABLE.get((state.status, type(event)))
    if row is None or _is_late(state, event):
        return state, ()
    after, effects = row.handle(state, event, now_s, uniform)
    if after is state and not effects:  # it means nothing here: a superseded timer, dependencies that nobody waits for
        return state, ()
    after = without_schedule(after)
    assert after.status in row.leads_to, f"{state.status} on {event} leads to {after.status}: not in the table"
    if after.status is not state.status or after.instance != state.instance:
        effects = (*effects, Note(NoteKind.STATUS, after.cause))
    return after, effects


def _is_late(state: DaemonState, event: Event) -> bool:
    """Whether it speaks of an older incarnation, or answers a spawn that is answered already."""
    if getattr(event, "instance", state.instance) != state.instance:
        return True
    return state.executed and isinstance(event, Spawned | SpawnFailed)


# --- requests


def _start(state: DaemonState, event: Event, now_s: float, uniform: float) -> Outcome:
    """A start by hand: a new row of attempts."""
    fresh = replace(state, wanted=True, completed=False, attempt=0, failures_s=())
    if isinstance(event, StartRequested) and event.blocked:
        return replace(fresh, waiting=True, timers=()), ()
    return _spawn(fresh, now_s)


def _start_when_met(state: DaemonState, event: Event, now_s: float, uniform: float) -> Outcome:
    return _spawn(state, now_s) if state.waiting and state.wanted else (state, ())


def _want(state: DaemonState, event: Event, now_s: float, uniform: float) -> Outcome:
    return replace(state, wanted=True), ()


def _start_after_stop(state: DaemonState, event: Event, now_s: float, uniform: float) -> Outcome:
    blocked = isinstance(event, StartRequested) and event.blocked
    fresh = replace(state, wanted=True, queued=False, attempt=0, failures_s=())
    return replace(fresh, waiting=blocked, start_again=True, stop_cause=""), ()


def _stop_waiting(state: DaemonState, event: Event, now_s: float, uniform: float) -> Outcome:
    return replace(state, waiting=False), ()


def _unwant(state: DaemonState, event: Event, now_s: float, uniform: float) -> Outcome:
    """Nothing runs; what failed stays shown as failed, since the reason is worth keeping."""
    status = state.status if state.status is _FAILED else _STOPPED
    wanted = _still_wanted(state, event)
    return replace(state, status=status, wanted=wanted, waiting=False, completed=False, queued=False, timers=()), ()


def _stop(state: DaemonState, event: Event, now_s: float, uniform: float) -> Outcome:
    return _begin_stop(replace(state, wanted=_still_wanted(state, event), queued=False), now_s)


def _stop_for_good(state: DaemonState, event: Event, now_s: float, uniform: float) -> Outcome:
    wanted = _still_wanted(state, event)
    return replace(state, wanted=wanted, waiting=False, start_again=False, queued=False, stop_cause=""), ()


def _still_wanted(state: DaemonState, event: Event) -> bool:
    return state.wanted and isinstance(event, StopRequested) and event.for_now


def _restart(state: DaemonState, event: Event, now_s: float, uniform: float) -> Outcome:
    return _begin_stop(replace(state, wanted=True, start_again=True, queued=False, attempt=0, failures_s=()), now_s)


def _kill(state: DaemonState, event: Event, now_s: float, uniform: float) -> Outcome:
    unwanted, _ = _stop_for_good(state, event, now_s, uniform)
    killed = replace(unwanted, status=_STOPPING, kill_asked=True, timers=())
    return _kill_now(killed, now_s) if state.executed else (killed, ())


# --- the schedule


def _run_due(state: DaemonState, event: Event, now_s: float, uniform: float) -> Outcome:
    assert isinstance(event, RunDue)
    after, notes, then = run_due(state, event)
    if then is Then.NOTHING:
        return after, notes
    after, effects = _spawn(after, now_s) if then is Then.SPAWN else _begin_stop(after, now_s)
    return after, (*notes, *effects)


def _then_queued(outcome: Outcome, now_s: float) -> Outcome:
    """A run that was queued follows, however this one ended; with a retry it would be two runs of one slot."""
    state, effects = outcome
    if not state.queued or state.status.has_instance:
        return outcome
    after, spawn = _spawn(replace(state, queued=False, completed=False, attempt=0, failures_s=()), now_s)
    return after, (*(effect for effect in effects if not isinstance(effect, ArmTimer)), *spawn)


# --- what the platform tells


def _spawned(state: DaemonState, event: Event, now_s: float, uniform: float) -> Outcome:
    assert isinstance(event, Spawned)
    alive = replace(state, executed=True, started_s=now_s)
    if state.ready or not event.awaits_ready:
        return replace(alive, status=_RUNNING, ready=True, ready_s=now_s), ()
    if state.policy.start_timeout_s <= 0:
        return alive, ()
    return _arm(alive, TimerKind.START, now_s + state.policy.start_timeout_s)


def _spawned_while_stopping(state: DaemonState, event: Event, now_s: float, uniform: float) -> Outcome:
    alive = replace(state, executed=True, started_s=now_s)
    return _kill_now(alive, now_s) if state.kill_asked else _begin_stop(alive, now_s)


def _became_ready(state: DaemonState, event: Event, now_s: float, uniform: float) -> Outcome:
    assert isinstance(event, BecameReady)
    return became_ready(state, event, now_s)


def _pause(state: DaemonState, event: Event, now_s: float, uniform: float) -> Outcome:
    """The start deadline is dropped: a process that stands still can't become ready."""
    return (replace(_disarm(state, TimerKind.START), status=_PAUSED), ()) if state.executed else (state, ())


def _paused_while_stopping(state: DaemonState, event: Event, now_s: float, uniform: float) -> Outcome:
    """It was stopped before the stop signal came; it will see that only when it goes on."""
    wakes = state.executed and not state.kill_asked and not state.escalated
    return state, (SendSignal(state.instance, int(Signal.CONT), state.policy.stop_tree),) if wakes else ()


def _continue(state: DaemonState, event: Event, now_s: float, uniform: float) -> Outcome:
    has_started = state.ready_s is not None  # also where its readiness is lost just now
    if has_started or state.policy.start_timeout_s <= 0:
        return replace(state, status=_RUNNING if has_started else _STARTING), ()
    return _arm(replace(state, status=_STARTING), TimerKind.START, now_s + state.policy.start_timeout_s)


def _ended(state: DaemonState, event: Event, now_s: float, uniform: float) -> Outcome:
    assert isinstance(event, Exited)
    exit_info = blamed(state, event.exit)
    return _then_queued(_decide(_without_instance(state, exit_info), exit_info, now_s, uniform), now_s)


def _spawn_failed(state: DaemonState, event: Event, now_s: float, uniform: float) -> Outcome:
    """Always a failure, whatever its exit code: nothing has run."""
    assert isinstance(event, SpawnFailed)
    ended = _without_instance(state, event.exit)
    return _then_queued(_decide(ended, event.exit, now_s, uniform, has_run=False), now_s)


def _ended_while_stopping(state: DaemonState, event: Event, now_s: float, uniform: float) -> Outcome:
    assert isinstance(event, Exited | SpawnFailed)
    exit_info = event.exit
    if state.stop_cause:
        failed = replace(exit_info, reason=ExitReason.ERROR, message=f"{state.stop_cause}; {exit_info.message}")
        return _then_queued(_decide(_without_instance(state, failed), failed, now_s, uniform), now_s)
    if state.escalated:
        grace_s = state.policy.stop_limit_s
        exit_info = replace(exit_info, message=f"did not stop within {grace_s:g} s; {exit_info.message}")
    elif exit_info.signal is not None and exit_info.signal in {step.signal for step in state.policy.ladder}:
        exit_info = replace(exit_info, reason=ExitReason.GRACEFUL, message=f"stopped on request ({exit_info.message})")
    ended = replace(_without_instance(state, exit_info), start_again=False)
    if state.start_again and not state.waiting:
        return _spawn(ended, now_s)  # by hand, so it is not counted
    return replace(ended, status=_STOPPED), ()


def _unhealthy(state: DaemonState, event: Event, now_s: float, uniform: float) -> Outcome:
    assert isinstance(event, BecameUnhealthy)
    if not state.executed:
        return state, ()
    if event.signal is not None:
        return strike(state, event)
    cause = f"unhealthy: {event.reason}"
    stopping, effects = _begin_stop(replace(state, stop_cause=cause), now_s)
    return stopping, (Note(NoteKind.UNHEALTHY, cause), *effects)


def _timer_fired(state: DaemonState, event: Event, now_s: float, uniform: float) -> Outcome:
    assert isinstance(event, TimerFired)
    timer = next((timer for timer in state.timers if timer.token == event.token), None)
    if timer is None:
        return state, ()
    state = _disarm(state, timer.kind)
    match timer.kind:
        case TimerKind.BACKOFF:
            return _spawn(replace(state, restarts=state.restarts + 1), now_s)
        case TimerKind.RETRY:
            fresh = replace(state, attempt=0, failures_s=(), restarts=state.restarts + 1)
            return _spawn(fresh, now_s)
        case TimerKind.START:
            cause = f"not ready within {state.policy.start_timeout_s:g} s"
            stopping, effects = _begin_stop(replace(state, stop_cause=cause), now_s)
            return stopping, (Note(NoteKind.START_TIMEOUT, cause), *effects)
        case TimerKind.STOP:
            step = state.policy.ladder[_rung(state)]
            return _climb(state, f"{step} did not end it within {step.wait_s:g} s", now_s)
        case TimerKind.KILL:
            text = f"still there {KILL_RETRY_S:g} s after SIGKILL (uninterruptible sleep, or not ours to kill): again"
            killed, effects = _kill_now(state, now_s)
            return killed, (Note(NoteKind.ESCALATED, text), *effects)


def _stop_step_failed(state: DaemonState, event: Event, now_s: float, uniform: float) -> Outcome:
    assert isinstance(event, StopStepFailed)
    if event.step != state.stop_step or state.timer(TimerKind.STOP) is None:
        return state, ()  # that rung is behind us
    return _climb(state, event.reason, now_s)


# --- the parts that transitions are made of


def _spawn(state: DaemonState, now_s: float) -> Outcome:
    state = replace(
        state, status=_STARTING, instance=state.instance + 1, waiting=False, executed=False, ready=False,
        started_s=now_s, ready_s=None, said_ready=False, struck=None, failure=None, start_again=False,
        kill_asked=False, escalated=False, stop_cause="", timers=(),
    )  # fmt: skip
    return state, (Spawn(state.instance),)


def _begin_stop(state: DaemonState, now_s: float) -> Outcome:
    """Ask it to end; the signal waits for `Spawned` where the platform has not answered yet."""
    was_paused = state.status is _PAUSED
    state = replace(state, status=_STOPPING, stop_step=0, timers=())
    if not state.executed:
        return state, ()
    state, effects = _step_on(state, now_s)
    if was_paused:  # a process that stands still would not see the signal before the deadline
        effects = (*effects, SendSignal(state.instance, int(Signal.CONT), state.policy.stop_tree))
    return state, effects


def stop_effect(state: DaemonState) -> Effect:
    """What the rung that it stands on does."""
    step = state.policy.ladder[_rung(state)]
    if step.command:
        return RunStopCommand(state.instance, state.stop_step, step.command, step.wait_s)
    if step.signal is Signal.KILL:
        return KillTree(state.instance, state.policy.kill_leader_only)
    return SendSignal(state.instance, int(step.signal or Signal.TERM), state.policy.stop_tree)


def _step_on(state: DaemonState, now_s: float) -> Outcome:
    step = state.policy.ladder[_rung(state)]
    if step.signal is Signal.KILL:
        return _kill_now(state, now_s)
    state, timer = _arm(state, TimerKind.STOP, now_s + step.wait_s)
    return state, (stop_effect(state), *timer)


def _climb(state: DaemonState, why: str, now_s: float) -> Outcome:
    """The next rung, or SIGKILL after the last."""
    ladder = state.policy.ladder
    following = state.stop_step + 1
    if following < len(ladder) and ladder[following].signal is not Signal.KILL:
        climbed, effects = _step_on(replace(_disarm(state, TimerKind.STOP), stop_step=following), now_s)
        return climbed, (Note(NoteKind.STOP_STEP, f"{why}: {ladder[following]}"), *effects)
    killed, effects = _kill_now(replace(state, escalated=True), now_s)
    return killed, (Note(NoteKind.ESCALATED, f"{why}: SIGKILL"), *effects)


def _rung(state: DaemonState) -> int:
    """The policy may have got a shorter ladder meanwhile."""
    return min(state.stop_step, len(state.policy.ladder) - 1)


def _kill_now(state: DaemonState, now_s: float) -> Outcome:
    state, timer = _arm(replace(state, timers=()), TimerKind.KILL, now_s + KILL_RETRY_S)
    return state, (KillTree(state.instance, state.policy.kill_leader_only), *timer)


def _without_instance(state: DaemonState, exit_info: ExitInfo) -> DaemonState:
    return replace(state, exit=exit_info, executed=False, ready=False, unready_cause="", timers=())


def _decide(state: DaemonState, exit_info: ExitInfo, now_s: float, uniform: float, *, has_run: bool = True) -> Outcome:
    """It ended and nobody had asked for that: again, later, or never?"""
    rules = state.policy.restart
    success = exit_info.reason is ExitReason.GRACEFUL or exit_info.code in rules.success_exit_codes
    success = success and has_run and not state.stop_cause
    if state.ready_s is not None and now_s - state.ready_s >= rules.reset_after:
        state = replace(state, attempt=0)
    reason = state.policy.reason_to_give_up(exit_info, success=success)
    if reason is not None:
        return _give_up(state, reason, exit_info, now_s)
    if success and rules.policy in (RestartPolicy.NEVER, RestartPolicy.ON_FAILURE, RestartPolicy.MAX_RETRIES):
        return replace(state, status=_STOPPED, completed=True), ()
    if not success:
        recent = (*(at_s for at_s in state.failures_s if now_s - at_s < rules.crash_window), now_s)
        if 0 < rules.crash_limit <= len(recent):
            return _give_up(state, FailureReason.CRASH_LIMIT, exit_info, now_s)
        state = replace(state, failures_s=recent if rules.crash_limit else ())
    limit = rules.backoff.max_retries
    if limit is not None and state.attempt >= limit:
        return _give_up(state, FailureReason.MAX_RETRIES, exit_info, now_s)
    delay_s = rules.backoff.jittered_delay_for(state.attempt, uniform)
    state = replace(state, status=_BACKOFF, attempt=state.attempt + 1, stop_cause="")
    if delay_s <= 0.0:
        return _spawn(replace(state, restarts=state.restarts + 1), now_s)
    return _arm(state, TimerKind.BACKOFF, now_s + delay_s)


def _give_up(state: DaemonState, reason: FailureReason, exit_info: ExitInfo, now_s: float) -> Outcome:
    failed = replace(state, status=_FAILED, failure=reason, stop_cause="")
    retry_in_s = state.policy.restart.retry_in
    if retry_in_s > 0 and reason in (FailureReason.CRASH_LIMIT, FailureReason.MAX_RETRIES):
        note = Note(NoteKind.FAILED, f"{exit_info.message}; {reason.value}: tried anew in {retry_in_s:g} s")
        failed, timer = _arm(failed, TimerKind.RETRY, now_s + retry_in_s)
        return failed, (note, *timer)
    return failed, (Note(NoteKind.FAILED, f"{exit_info.message}; not started again: {reason.value}"),)


def _row(handle: Callable[[DaemonState, Event, float, float], Outcome], *leads_to: DaemonStatus) -> Row:
    return Row(handle, frozenset(leads_to))


def _plain(handle: Callable[[DaemonState, Any], Outcome], *leads_to: DaemonStatus) -> Row:
    """A row that needs neither time nor chance."""
    return Row(lambda state, event, now_s, uniform: handle(state, event), frozenset(leads_to))


_END = (_BACKOFF, _FAILED, _STOPPED, _STARTING)

TABLE: Mapping[tuple[DaemonStatus, type], Row] = {
    (_CREATED, StartRequested): _row(_start, _STARTING, _CREATED),
    (_CREATED, RestartRequested): _row(_start, _STARTING),
    (_CREATED, DependenciesMet): _row(_start_when_met, _STARTING),
    (_CREATED, StopRequested): _row(_unwant, _STOPPED),
    (_CREATED, KillRequested): _row(_unwant, _STOPPED),
    (_CREATED, ScheduleResumed): _row(_want, _CREATED),
    (_CREATED, RunDue): _row(_run_due, _STARTING, _CREATED),
    (_STOPPED, StartRequested): _row(_start, _STARTING, _STOPPED),
    (_STOPPED, RestartRequested): _row(_start, _STARTING),
    (_STOPPED, DependenciesMet): _row(_start_when_met, _STARTING),
    (_STOPPED, StopRequested): _row(_unwant, _STOPPED),
    (_STOPPED, KillRequested): _row(_unwant, _STOPPED),
    (_STOPPED, RunDue): _row(_run_due, _STARTING, _STOPPED),
    (_FAILED, StartRequested): _row(_start, _STARTING, _FAILED),
    (_FAILED, RestartRequested): _row(_start, _STARTING),
    (_FAILED, DependenciesMet): _row(_start_when_met, _STARTING),
    (_FAILED, TimerFired): _row(_timer_fired, _STARTING),
    (_FAILED, StopRequested): _row(_unwant, _FAILED),
    (_FAILED, KillRequested): _row(_unwant, _FAILED),
    (_FAILED, RunDue): _row(_run_due, _STARTING, _FAILED),
    (_BACKOFF, StartRequested): _row(_start, _STARTING, _BACKOFF),
    (_BACKOFF, RestartRequested): _row(_start, _STARTING),
    (_BACKOFF, DependenciesMet): _row(_start_when_met, _STARTING),
    (_BACKOFF, StopRequested): _row(_unwant, _STOPPED),
    (_BACKOFF, KillRequested): _row(_unwant, _STOPPED),
    (_BACKOFF, TimerFired): _row(_timer_fired, _STARTING),
    (_BACKOFF, RunDue): _row(_run_due, _STARTING, _BACKOFF),
    (_STARTING, StartRequested): _row(_want, _STARTING),
    (_STARTING, StopRequested): _row(_stop, _STOPPING),
    (_STARTING, RestartRequested): _row(_restart, _STOPPING),
    (_STARTING, KillRequested): _row(_kill, _STOPPING),
    (_STARTING, Spawned): _row(_spawned, _STARTING, _RUNNING),
    (_STARTING, SpawnFailed): _row(_spawn_failed, _BACKOFF, _FAILED, _STARTING),
    (_STARTING, BecameReady): _row(_became_ready, _RUNNING, _STARTING),
    (_STARTING, BecameUnhealthy): _row(_unhealthy, _STARTING, _STOPPING),
    (_STARTING, SaidReady): _plain(said_ready, _STARTING),
    (_STARTING, TimeAskedFor): _plain(extend, _STARTING),
    (_STARTING, Exited): _row(_ended, *_END),
    (_STARTING, Paused): _row(_pause, _PAUSED),
    (_STARTING, TimerFired): _row(_timer_fired, _STOPPING),
    (_STARTING, RunDue): _row(_run_due, _STARTING, _STOPPING),
    (_RUNNING, StartRequested): _row(_want, _RUNNING),
    (_RUNNING, StopRequested): _row(_stop, _STOPPING),
    (_RUNNING, RestartRequested): _row(_restart, _STOPPING),
    (_RUNNING, KillRequested): _row(_kill, _STOPPING),
    (_RUNNING, Exited): _row(_ended, *_END),
    (_RUNNING, Paused): _row(_pause, _PAUSED),
    (_RUNNING, BecameReady): _row(_became_ready, _RUNNING),
    (_RUNNING, BecameUnready): _plain(became_unready, _RUNNING),
    (_RUNNING, BecameUnhealthy): _row(_unhealthy, _RUNNING, _STOPPING),
    (_RUNNING, RunDue): _row(_run_due, _RUNNING, _STOPPING),
    (_PAUSED, StartRequested): _row(_want, _PAUSED),
    (_PAUSED, StopRequested): _row(_stop, _STOPPING),
    (_PAUSED, RestartRequested): _row(_restart, _STOPPING),
    (_PAUSED, KillRequested): _row(_kill, _STOPPING),
    (_PAUSED, BecameReady): _row(_became_ready, _PAUSED),
    (_PAUSED, SaidReady): _plain(said_ready, _PAUSED),
    (_PAUSED, BecameUnready): _plain(became_unready, _PAUSED),
    (_PAUSED, Exited): _row(_ended, *_END),
    (_PAUSED, Continued): _row(_continue, _RUNNING, _STARTING),
    (_PAUSED, RunDue): _row(_run_due, _PAUSED, _STOPPING),
    (_STOPPING, StartRequested): _row(_start_after_stop, _STOPPING),
    (_STOPPING, RestartRequested): _row(_start_after_stop, _STOPPING),
    (_STOPPING, DependenciesMet): _row(_stop_waiting, _STOPPING),
    (_STOPPING, StopRequested): _row(_stop_for_good, _STOPPING),
    (_STOPPING, KillRequested): _row(_kill, _STOPPING),
    (_STOPPING, Spawned): _row(_spawned_while_stopping, _STOPPING),
    (_STOPPING, SpawnFailed): _row(_ended_while_stopping, _STOPPED, _STARTING),
    (_STOPPING, Exited): _row(_ended_while_stopping, *_END),
    (_STOPPING, StopStepFailed): _row(_stop_step_failed, _STOPPING),
    (_STOPPING, TimeAskedFor): _plain(extend, _STOPPING),
    (_STOPPING, Paused): _row(_paused_while_stopping, _STOPPING),
    (_STOPPING, TimerFired): _row(_timer_fired, _STOPPING),
    (_STOPPING, RunDue): _row(_run_due, _STOPPING),
}
