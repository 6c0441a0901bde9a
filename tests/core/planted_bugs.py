"""Bugs that a supervisor could have; each is planted into the lifecycle, and the walks must find it.

`BUGS` is the list: a name, how to plant it, and the invariant that it proves. Two kinds of planting: a
row of TABLE gets another handler, or a part that handlers are made of is replaced.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from duende.core import lifecycle, overlap
from duende.core.effects import KillTree, Note, RunStopCommand, SendSignal
from duende.core.events import (
    BecameReady,
    BecameUnhealthy,
    BecameUnready,
    Continued,
    DependenciesMet,
    Event,
    Exited,
    RunDue,
    Spawned,
    StartRequested,
    StopRequested,
    TimeAskedFor,
    TimerFired,
)
from duende.core.lifecycle import TABLE, Row
from duende.core.state import DaemonState, TimerKind
from duende.model.signals import Signal
from duende.model.status import DaemonStatus

Outcome = lifecycle.Outcome
Plant = Callable[[pytest.MonkeyPatch], None]
Handler = Callable[[DaemonState, Event, float, float], Outcome]

_EVERYWHERE = frozenset(DaemonStatus)
_step, _spawn, _begin_stop, _arm = lifecycle.step, lifecycle._spawn, lifecycle._begin_stop, lifecycle._arm
_decide, _kill_now, _timer_fired = lifecycle._decide, lifecycle._kill_now, lifecycle._timer_fired
_climb = lifecycle._climb
_give_up, _ended = lifecycle._give_up, lifecycle._ended_while_stopping
_start_after_stop, _without_instance = lifecycle._start_after_stop, lifecycle._without_instance


@dataclass(frozen=True, slots=True)
class Bug:
    """`breaks` names the invariant that this bug proves."""

    name: str
    plant: Plant
    breaks: str


def row(status: DaemonStatus, event: type, handler: Handler) -> Plant:
    """Give one pair another handler that may lead anywhere."""
    return lambda patch: patch.setitem(TABLE, (status, event), Row(handler, _EVERYWHERE))  # type: ignore[arg-type]


def part(name: str, replacement: Callable[..., Any]) -> Plant:
    """Replace one of the parts that handlers call."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(lifecycle, name, replacement)

    return plant


def nothing(state: DaemonState, event: Event, now_s: float, uniform: float) -> Outcome:
    """Ignore the event."""
    return state, ()


def edit(state: DaemonState, **changes: Any) -> DaemonState:
    """`replace`, shorter."""
    return replace(state, **changes)


def filtered(outcome: Outcome, drop: Callable[[Any], bool]) -> Outcome:
    """The outcome without some of its effects."""
    return outcome[0], tuple(effect for effect in outcome[1] if not drop(effect))


def _believes_older_incarnations(state: DaemonState, event: Event, **context: float) -> Outcome:
    if hasattr(event, "instance") and not isinstance(event, Spawned):
        event = replace(event, instance=state.instance)
    return _step(state, event, **context)


def _takes_any_token(state: DaemonState, event: Event, now_s: float, uniform: float) -> Outcome:
    if not state.timers:
        return state, ()
    return _timer_fired(state, TimerFired(state.timers[0].token), now_s, uniform)


def _reuses_tokens(state: DaemonState, kind: TimerKind, deadline_s: float) -> Outcome:
    after, effects = _arm(state, kind, deadline_s)
    return edit(after, next_token=state.next_token), effects


def _stops_without_timer(state: DaemonState, now_s: float) -> Outcome:
    after, effects = _begin_stop(state, now_s)
    return edit(after, timers=()), tuple(effect for effect in effects if isinstance(effect, SendSignal))


def _skips_a_rung(state: DaemonState, why: str, now_s: float) -> Outcome:
    return _climb(edit(state, stop_step=state.stop_step + 1), why, now_s)


def _forgets_to_wake(state: DaemonState, now_s: float) -> Outcome:
    return filtered(_begin_stop(state, now_s), lambda effect: getattr(effect, "signal", 0) == Signal.CONT)


def _forgets_the_signal(state: DaemonState, now_s: float) -> Outcome:
    return filtered(_begin_stop(state, now_s), lambda effect: isinstance(effect, SendSignal | RunStopCommand))


def _kills_instead(state: DaemonState, now_s: float) -> Outcome:
    after, effects = _begin_stop(state, now_s)
    return _kill_now(after, now_s) if state.executed else (after, effects)


def _kills_silently(state: DaemonState, event: Event, now_s: float, uniform: float) -> Outcome:
    return filtered(_timer_fired(state, event, now_s, uniform), lambda effect: isinstance(effect, Note))


def _signals_before_spawned(state: DaemonState, now_s: float) -> Outcome:
    return _begin_stop(edit(state, executed=True), now_s)


def _kills_whole_tree_always(state: DaemonState, now_s: float) -> Outcome:
    after, effects = _kill_now(state, now_s)
    kills = tuple(replace(each, leader_only=False) if isinstance(each, KillTree) else each for each in effects)
    return after, kills


def _kills_only_once(state: DaemonState, now_s: float) -> Outcome:
    after, effects = _kill_now(state, now_s)
    return edit(after, timers=()), effects[:1]


def _with_restart_rules(**changes: Any) -> Callable[..., Outcome]:
    """Decide by other rules than the configured ones, then put the configured ones back."""

    def decide(state: DaemonState, *args: Any, **options: Any) -> Outcome:
        backoff = {key: value for key, value in changes.items() if hasattr(state.policy.restart.backoff, key)}
        rules = {key: value for key, value in changes.items() if key not in backoff}
        restart = replace(state.policy.restart, **rules)
        restart = replace(restart, backoff=replace(restart.backoff, **backoff))
        after, effects = _decide(edit(state, policy=replace(state.policy, restart=restart)), *args, **options)
        return edit(after, policy=state.policy), effects

    return decide


def _one_retry_too_many(state: DaemonState, *args: Any, **options: Any) -> Outcome:
    limit = state.policy.restart.backoff.max_retries
    return _with_restart_rules(max_retries=limit if limit is None else limit + 1)(state, *args, **options)


def _backoff_without_timer(state: DaemonState, *args: Any, **options: Any) -> Outcome:
    after, effects = _decide(state, *args, **options)
    if after.status is not DaemonStatus.BACKOFF:
        return after, effects
    return edit(after, timers=()), ()


def _never_counts_attempts(state: DaemonState, *args: Any, **options: Any) -> Outcome:
    after, effects = _decide(state, *args, **options)
    return (edit(after, attempt=0) if after.attempt else after), effects


def _forgets_to_start_again(state: DaemonState, event: Event, now_s: float, uniform: float) -> Outcome:
    return _ended(edit(state, start_again=False), event, now_s, uniform)


def _takes_failure_stop_for_stop(state: DaemonState, event: Event, now_s: float, uniform: float) -> Outcome:
    return _ended(edit(state, stop_cause=""), event, now_s, uniform)


def _ignores_blocked(state: DaemonState, event: Event, now_s: float, uniform: float) -> Outcome:
    return _start_after_stop(state, StartRequested(), now_s, uniform)


def _starts_at_once(state: DaemonState, event: Event, now_s: float, uniform: float) -> Outcome:
    return _spawn(edit(state, wanted=True), now_s)


def _settles_at_once(state: DaemonState, event: Event, now_s: float, uniform: float) -> Outcome:
    return edit(state, status=DaemonStatus.STOPPED, wanted=lifecycle._still_wanted(state, event), timers=()), ()


def _keeps_the_backoff_timer(state: DaemonState, event: Event, now_s: float, uniform: float) -> Outcome:
    return edit(state, wanted=lifecycle._still_wanted(state, event)), ()


def _stays_wanted(state: DaemonState, event: Event, now_s: float, uniform: float) -> Outcome:
    return _begin_stop(state, now_s)


def _drops_early_readiness(state: DaemonState, event: Event, now_s: float, uniform: float) -> Outcome:
    return lifecycle._became_ready(state, event, now_s, uniform) if state.executed else (state, ())


def _keeps_instance_number(state: DaemonState, now_s: float) -> Outcome:
    after, effects = _spawn(edit(state, instance=max(state.instance - 1, 0)), now_s)
    return after, effects


def _answers_twice(state: DaemonState, event: Event) -> bool:
    return getattr(event, "instance", state.instance) != state.instance


def _completes_when_stopped(state: DaemonState, event: Event, now_s: float, uniform: float) -> Outcome:
    after, effects = _ended(state, event, now_s, uniform)
    return (edit(after, completed=True) if after.status is DaemonStatus.STOPPED else after), effects


def _grows_failures(state: DaemonState, *args: Any, **options: Any) -> Outcome:
    after, effects = _decide(state, *args, **options)
    return edit(after, failures_s=(*after.failures_s, 0.0)), effects


def _says_nothing(state: DaemonState, event: Event, **context: float) -> Outcome:
    return filtered(_step(state, event, **context), lambda effect: isinstance(effect, Note))


def _starts_again_always(state: DaemonState, event: Event, now_s: float, uniform: float) -> Outcome:
    return _ended(edit(state, start_again=not state.stop_cause), event, now_s, uniform)


def _does_not_count_the_restart(state: DaemonState, event: Event, now_s: float, uniform: float) -> Outcome:
    after, effects = _timer_fired(state, event, now_s, uniform)
    return edit(after, restarts=state.restarts), effects


def _counts_a_restart_by_hand(state: DaemonState, event: Event, now_s: float, uniform: float) -> Outcome:
    after, effects = _ended(state, event, now_s, uniform)
    by_hand = after.instance != state.instance and after.restarts == state.restarts
    return (edit(after, restarts=state.restarts + 1) if by_hand else after), effects


def _starts_the_wait_over(state: DaemonState, event: Event, now_s: float, uniform: float) -> Outcome:
    if event not in [TimerFired(timer.token) for timer in state.timers]:
        return state, ()
    return _arm(state, TimerKind.BACKOFF, now_s + state.policy.restart.backoff.delay_for(state.attempt - 1))


def _arms_what_it_forgets(state: DaemonState, kind: TimerKind, deadline_s: float) -> Outcome:
    after, effects = _arm(state, kind, deadline_s)
    return edit(after, timers=state.timers), effects


def _arms_later(state: DaemonState, kind: TimerKind, deadline_s: float) -> Outcome:
    return _arm(state, kind, deadline_s + 1.0)


def _stores_twice(state: DaemonState, kind: TimerKind, deadline_s: float) -> Outcome:
    after, effects = _arm(state, kind, deadline_s)
    return edit(after, timers=after.timers * 2), effects


def _runs_before_ready(state: DaemonState, event: Event, now_s: float, uniform: float) -> Outcome:
    return edit(state, status=DaemonStatus.RUNNING, executed=True, started_s=now_s), ()


def _stops_what_is_not_ready(state: DaemonState, event: Event, now_s: float, uniform: float) -> Outcome:
    return _begin_stop(edit(state, stop_cause="not ready"), now_s)


def _takes_any_time(state: DaemonState, event: Event, now_s: float, uniform: float) -> Outcome:
    assert isinstance(event, TimeAskedFor)
    return _arm(state, TimerKind.STOP, event.until_s) if state.timer(TimerKind.STOP) else (state, ())


def _strikes_and_stops(state: DaemonState, event: Event, now_s: float, uniform: float) -> Outcome:
    return _begin_stop(edit(state, stop_cause="unhealthy"), now_s) if state.executed else (state, ())


def _gives_up_without_reason(*args: Any) -> Outcome:
    after, effects = _give_up(*args)
    return edit(after, failure=None), effects


def _gives_up_to_nowhere(*args: Any) -> Outcome:
    after, effects = _give_up(*args)
    return edit(after, status=DaemonStatus.CREATED), effects


def _never_kills(state: DaemonState, now_s: float) -> Outcome:
    return filtered(_kill_now(state, now_s), lambda effect: isinstance(effect, KillTree))


def _forgets_when_stored(patch: pytest.MonkeyPatch) -> None:
    to_json = DaemonState.to_json
    patch.setattr(DaemonState, "to_json", lambda state: {**to_json(state), "start_again": False})


def _runs_beside(state: DaemonState, event: Event, now_s: float, uniform: float) -> Outcome:
    assert isinstance(event, RunDue)
    return _spawn(edit(state, slot=event.slot), now_s) if overlap._is_next_slot(state, event) else (state, ())


def _forgets_the_slot(state: DaemonState, event: RunDue) -> overlap.Verdict:
    after, notes, then = overlap.run_due(state, event)
    return (edit(after, slot=state.slot) if after is not state else after), notes, then


def _runs_at_once(state: DaemonState, event: RunDue) -> overlap.Verdict:
    return overlap.run_due(state, replace(event, blocked=False))


def of_overlap(name: str, replacement: Callable[..., Any]) -> Plant:
    """Replace one of the parts that decide what a slot means."""
    return lambda patch: patch.setattr(overlap, name, replacement)


S = DaemonStatus

BUGS = (
    Bug("giving up leads out of the table", part("_give_up", _gives_up_to_nowhere), "table"),
    Bug("events of older incarnations are believed", part("step", _believes_older_incarnations), "late or unlisted"),
    Bug("a stop timer's token is not looked at", row(S.STOPPING, TimerFired, _takes_any_token), "late or unlisted"),
    Bug("a backoff timer's token is not looked at", row(S.BACKOFF, TimerFired, _takes_any_token), "late or unlisted"),
    Bug("a change of status is not told", part("step", _says_nothing), "change noted"),
    # what is wanted
    Bug("a stop leaves it wanted", row(S.RUNNING, StopRequested, _stays_wanted), "wanted is the user's word"),
    Bug("a stop of a failing daemon is ignored", row(S.STOPPING, StopRequested, nothing), "wanted is the user's word"),
    Bug("a stop in backoff keeps the timer", row(S.BACKOFF, StopRequested, _keeps_the_backoff_timer), "stop is obeyed"),
    Bug("every stop is half of a restart", row(S.STOPPING, Exited, _starts_again_always), "spawn only wanted"),
    Bug("a blocked start starts", row(S.STOPPED, StartRequested, _starts_at_once), "spawn not blocked"),
    Bug("a start while stopping ignores dependencies", row(S.STOPPING, StartRequested, _ignores_blocked), "not stuck"),
    Bug("dependencies are never met", row(S.CREATED, DependenciesMet, nothing), "not stuck"),
    Bug("a restart stops and does not start", row(S.STOPPING, Exited, _forgets_to_start_again), "not stuck"),
    Bug("an unhealthy daemon is stopped for good", row(S.STOPPING, Exited, _takes_failure_stop_for_stop), "not stuck"),
    Bug("backoff waits for nothing", part("_decide", _backoff_without_timer), "not stuck"),
    Bug("a stopped daemon counts as completed", row(S.STOPPING, Exited, _completes_when_stopped), "completed means it"),
    Bug("SIGCONT is not heard of", row(S.PAUSED, Continued, nothing), "comes up"),
    Bug("backoff starts over when it ends", row(S.BACKOFF, TimerFired, _starts_the_wait_over), "comes to rest"),
    # incarnations
    Bug("a start while stopping starts at once", row(S.STOPPING, StartRequested, _starts_at_once), "one incarnation"),
    Bug("an incarnation's number is used twice", part("_spawn", _keeps_instance_number), "numbers rise by one"),
    Bug("a stop before the spawn's answer settles", row(S.STARTING, StopRequested, _settles_at_once),
        "nothing left behind"),
    Bug("an exit is not heard of", row(S.RUNNING, Exited, nothing), "status has its instance"),
    Bug("a stop that waited for the spawn is forgotten", row(S.STOPPING, Spawned, nothing), "executed"),
    Bug("what is executed counts as running", row(S.STARTING, Spawned, _runs_before_ready), "running is ready"),
    Bug("readiness that overtakes the spawn is lost", row(S.STARTING, BecameReady, _drops_early_readiness),
        "readiness counts"),
    Bug("lost readiness stops it", row(S.RUNNING, BecameUnready, _stops_what_is_not_ready), "unready is left alone"),
    Bug("a signal of a probe stops it", row(S.RUNNING, BecameUnhealthy, _strikes_and_stops), "only struck"),
    # stopping
    Bug("time asked for cuts a stop short", row(S.STOPPING, TimeAskedFor, _takes_any_time), "time is not cut short"),
    Bug("a stop arms no timer", part("_begin_stop", _stops_without_timer), "stopping has a way out"),
    Bug("SIGKILL is not tried again", part("_kill_now", _kills_only_once), "stopping has a way out"),
    Bug("a stop sends no signal", part("_begin_stop", _forgets_the_signal), "stop is carried out"),
    Bug("a stop kills at once", part("_begin_stop", _kills_instead), "grace"),
    Bug("SIGKILL without a word", row(S.STOPPING, TimerFired, _kills_silently), "escalation noted"),
    Bug("SIGKILL is never sent", part("_kill_now", _never_kills), "nothing runs after a stop"),
    Bug("a stop signals what was not executed", part("_begin_stop", _signals_before_spawned), "signal only executed"),
    Bug("a held daemon is not woken for its stop", part("_begin_stop", _forgets_to_wake), "held is woken"),
    Bug("a second answer to a spawn stops twice", part("_is_late", _answers_twice), "one stop signal"),
    Bug("a rung of the ladder is skipped", part("_climb", _skips_a_rung), "ladder in order"),
    Bug("kill mode process is not respected", part("_kill_now", _kills_whole_tree_always), "kill mode"),
    # timers
    Bug("tokens are reused", part("_arm", _reuses_tokens), "token reused"),
    Bug("a timer is armed and forgotten", part("_arm", _arms_what_it_forgets), "timers in state"),
    Bug("timers are a second late", part("_arm", _arms_later), "deadlines"),
    Bug("a timer is stored twice", part("_arm", _stores_twice), "unique timers"),
    Bug("timers are not disarmed", part("_disarm", lambda state, kind: state), "timers fit"),
    # restarts
    Bug("one retry too many", part("_decide", _one_retry_too_many), "max retries"),
    Bug("retries have no limit", part("_decide", _with_restart_rules(max_retries=None)), "max retries"),
    Bug("a stable run resets nothing", part("_decide", _with_restart_rules(reset_after=1e9)), "backoff"),
    Bug("every run counts as stable", part("_decide", _with_restart_rules(reset_after=0.0)), "max retries"),
    Bug("attempts are not counted", part("_decide", _never_counts_attempts), "backoff"),
    Bug("jitter is too wide", part("_decide", _with_restart_rules(jitter=3.0)), "backoff"),
    Bug("crashes are not counted", part("_decide", _with_restart_rules(crash_limit=0)), "crash limit"),
    Bug("the crash window is too short", part("_decide", _with_restart_rules(crash_window=0.0)), "crash limit"),
    Bug("failures pile up", part("_decide", _grows_failures), "bounded"),
    Bug("permanent exit codes are retried", part("_decide", _with_restart_rules(permanent_exit_codes=frozenset())),
        "permanent exit"),
    Bug("restarts are not counted", row(S.BACKOFF, TimerFired, _does_not_count_the_restart), "restarts counted"),
    Bug("a restart by hand is counted", row(S.STOPPING, Exited, _counts_a_restart_by_hand), "restarts counted"),
    Bug("giving up has no reason", part("_give_up", _gives_up_without_reason), "failure has a reason"),
    # schedules
    Bug("a slot is acted on twice", of_overlap("_is_next_slot", lambda state, event: state.wanted), "late or unlisted"),
    Bug("a slot is not noted", part("run_due", _forgets_the_slot), "slots noted"),
    Bug("a stop does not suspend the schedule", part("without_schedule", lambda state: state), "slots noted"),
    Bug("a run is started beside another", row(S.RUNNING, RunDue, _runs_beside), "one incarnation"),
    Bug("a slot does not wait for dependencies", part("run_due", _runs_at_once), "spawn not blocked"),
    Bug("a queued run never comes", part("_then_queued", lambda outcome, now_s: outcome), "queued run follows"),
    Bug("half a restart is lost when stored", _forgets_when_stored, "stored and read back"),
)  # fmt: skip
