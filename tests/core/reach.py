"""Every state that the lifecycle can reach, as far as states differ in kind: a breadth-first walk over the real `step`.

Two states are of one kind when all their switches agree, their counters agree up to a small figure, and the same timers
live. From one state of each kind every event is tried, under several policies.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

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
from duende.core.lifecycle import step
from duende.core.policy import LifecyclePolicy
from duende.core.state import DaemonState
from duende.model.exits import ExitInfo, ExitReason
from duende.model.restart import BackoffConfig, RestartPolicy
from duende.model.schedule import Moment, Overlap
from duende.model.signals import Signal
from duende.model.status import DaemonStatus
from duende.model.stop import StopStep

from .play import policy

POLICIES = (
    policy(RestartPolicy.ON_FAILURE),
    policy(RestartPolicy.NEVER, start_timeout_s=0.0, stop_tree=True),
    policy(RestartPolicy.ALWAYS, BackoffConfig(initial_delay=0.0, jitter=0.0), kill_leader_only=True),
    policy(RestartPolicy.UNLESS_STOPPED, crash_limit=2, crash_window=60.0),
    policy(RestartPolicy.ALWAYS, crash_limit=1, crash_window=60.0, retry_in=300.0),
    *(policy(RestartPolicy.ON_FAILURE, crash_limit=2, overlap=overlap) for overlap in Overlap),
    policy(RestartPolicy.MAX_RETRIES, BackoffConfig(initial_delay=0.0, max_retries=1, jitter=0.0)),
    policy(stop=(StopStep(command=("ask",), wait_s=1.0), StopStep(Signal.TERM, wait_s=1.0), StopStep(Signal.KILL))),
)

ENDS = (
    ExitInfo.from_code(0),
    ExitInfo.from_code(1),
    ExitInfo.from_code(125),
    ExitInfo.from_signal(9),
    ExitInfo.from_signal(15),
    ExitInfo.unknown("the keeper died"),
)
FAILED_SPAWNS = (
    ExitInfo(ExitReason.ERROR, "no such file", errno=2),
    ExitInfo(ExitReason.ERROR, "no memory", errno=12, transient=True),
    ExitInfo(ExitReason.POLICY_VIOLATION, "no such user"),
    ExitInfo.from_code(0),  # a platform's tool that fails with 0
)


@dataclass(slots=True)
class Reached:
    """`states` has one state of each kind; `moves` says where each pair has led."""

    states: list[DaemonState] = field(default_factory=list)
    moves: dict[tuple[DaemonStatus, type[Event]], set[DaemonStatus]] = field(default_factory=dict)


def events_for(state: DaemonState) -> Iterator[Event]:
    """Every type of event, in each variant that could matter, about the present incarnation."""
    n = state.instance
    yield from (StartRequested(), StartRequested(blocked=True), DependenciesMet())
    yield from (StopRequested(), StopRequested(for_now=True), RestartRequested(), KillRequested())
    yield from (Spawned(n, awaits_ready=True), Spawned(n, awaits_ready=False))
    yield from (SpawnFailed(n, exit_info) for exit_info in FAILED_SPAWNS)
    yield from (Exited(n, exit_info) for exit_info in ENDS)
    yield from (BecameReady(n), BecameUnready(n, "busy"), SaidReady(n), Paused(n), Continued(n))
    yield from (BecameUnhealthy(n, "slow"), BecameUnhealthy(n, "slow", int(Signal.USR1)))
    yield from (TimeAskedFor(n, 0.0), TimeAskedFor(n, 1e9))
    yield from (StopStepFailed(n, state.stop_step, "exited with 1"), StopStepFailed(n, 7, "of another rung"))
    yield from (TimerFired(timer.token) for timer in state.timers)
    yield TimerFired(0)  # a token that means nothing
    slot = Moment(state.slot.wall_s + 60.0 if state.slot else 60.0, None)
    yield from (ScheduleResumed(), RunDue(state.slot, slot, "09:15"), RunDue(state.slot, slot, "09:15", blocked=True))
    yield from (RunDue(slot, slot, "09:15"), SlotPassed(slot, slot, "missed"))  # after a slot that never was
    yield from (SlotPassed(state.slot, slot), SlotPassed(state.slot, slot, "missed"))
    yield PolicyChanged(replace(state.policy, shutdown_timeout_s=state.policy.shutdown_timeout_s))


@functools.cache
def reached(policies: tuple[LifecyclePolicy, ...] = POLICIES) -> Reached:
    """Walk until no event leads to a state of a new kind."""
    found = Reached()
    for rules in policies:
        first = DaemonState(policy=rules)
        seen = {_kind_of(first)}
        queue = deque([(first, 0.0)])
        while queue:
            state, now_s = queue.popleft()
            found.states.append(state)
            for event in events_for(state):
                after, effects = step(state, event, now_s=now_s + 1.0, uniform=0.5)
                if after is not state or effects:
                    found.moves.setdefault((state.status, type(event)), set()).add(after.status)
                if _kind_of(after) not in seen:
                    seen.add(_kind_of(after))
                    queue.append((after, now_s + 1.0))
    return found


def _kind_of(state: DaemonState) -> tuple[object, ...]:
    return (
        state.status, state.wanted, state.waiting, state.executed, state.ready, state.completed,
        state.start_again, state.kill_asked, state.escalated, state.stop_step, bool(state.stop_cause),
        state.ready_s is None,
        min(state.attempt, 2), len(state.failures_s), state.failure, state.slot is None, state.queued,
        state.exit is None, tuple(timer.kind for timer in state.timers), min(state.instance, 2),
    )  # fmt: skip
