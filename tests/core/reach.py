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
    Continued,
    DependenciesMet,
    Event,
    Exited,
    KillRequested,
    Paused,
    PolicyChanged,
    RestartRequested,
    Spawned,
    SpawnFailed,
    StartRequested,
    StopRequested,
    TimerFired,
)
from duende.core.lifecycle import step
from duende.core.policy import LifecyclePolicy
from duende.core.state import DaemonState
from duende.model.exits import ExitInfo, ExitReason
from duende.model.restart import BackoffConfig, RestartPolicy
from duende.model.status import DaemonStatus

from .play import policy

POLICIES = (
    policy(RestartPolicy.ON_FAILURE),
    policy(RestartPolicy.NEVER, start_timeout_s=0.0, stop_tree=True),
    policy(RestartPolicy.ALWAYS, BackoffConfig(initial_delay=0.0, jitter=0.0), kill_leader_only=True),
    policy(RestartPolicy.UNLESS_STOPPED, crash_limit=2, crash_window=60.0),
    policy(RestartPolicy.MAX_RETRIES, BackoffConfig(initial_delay=0.0, max_retries=1, jitter=0.0)),
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
    yield from (BecameReady(n), Paused(n), Continued(n), BecameUnhealthy(n, "slow"))
    yield from (TimerFired(timer.token) for timer in state.timers)
    yield TimerFired(0)  # a token that means nothing
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
        state.start_again, state.kill_asked, state.escalated, bool(state.stop_cause), min(state.attempt, 2),
        len(state.failures_s), state.failure,
        state.exit is None, tuple(timer.kind for timer in state.timers), min(state.instance, 2),
    )  # fmt: skip
