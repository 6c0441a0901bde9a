"""Restarts: who is started again, when, and when it is enough."""

from __future__ import annotations

import pytest

from duende.core.effects import NoteKind, SendSignal, Spawn
from duende.core.events import (
    BecameReady,
    BecameUnhealthy,
    Continued,
    DependenciesMet,
    Paused,
    RestartRequested,
    SpawnFailed,
    StartRequested,
)
from duende.core.state import TimerKind
from duende.model.exits import ExitInfo, ExitReason
from duende.model.restart import BackoffConfig, RestartPolicy
from duende.model.status import DaemonStatus, FailureReason

from .play import STEADY, Play, policy

P, S = RestartPolicy, DaemonStatus
AGAIN, DONE, FAILED = S.BACKOFF, S.STOPPED, S.FAILED
UNKNOWN = ExitInfo.unknown("the keeper died")


@pytest.mark.parametrize(
    ("restart", "after_success", "after_failure"),
    [
        (P.NEVER, DONE, FAILED), (P.ON_FAILURE, DONE, AGAIN), (P.ALWAYS, AGAIN, AGAIN),
        (P.UNLESS_STOPPED, AGAIN, AGAIN), (P.MAX_RETRIES, DONE, AGAIN),
    ],
)  # fmt: skip
def test_policy(restart: RestartPolicy, after_success: DaemonStatus, after_failure: DaemonStatus) -> None:
    assert Play(policy(restart)).running().exits(0).state.status is after_success
    for failure in (ExitInfo.from_code(1), ExitInfo.from_signal(11), ExitInfo.out_of_memory(limit_bytes=1), UNKNOWN):
        assert Play(policy(restart)).running().exits(failure).state.status is after_failure


def test_never_says_that_its_policy_is_the_reason() -> None:
    assert Play(policy(P.NEVER)).running().exits(1).state.failure is FailureReason.EXITED


def test_completed_only_after_an_end_by_itself_with_success() -> None:
    play = Play().running().exits(0)
    assert play.state.completed
    assert not play.tell(StartRequested()).state.completed


def test_configured_success_codes_are_success() -> None:
    rules = policy(success_exit_codes=frozenset({0, 143}))
    assert Play(rules).running().exits(143).state.status is DONE
    assert Play(rules).running().exits(144).state.status is AGAIN


@pytest.mark.parametrize("restart", RestartPolicy)
@pytest.mark.parametrize("code", [125, 7])
def test_permanent_codes_end_the_attempts_under_every_policy(restart: RestartPolicy, code: int) -> None:
    play = Play(policy(restart, permanent_exit_codes=frozenset({125, 7}))).running().exits(code)
    assert (play.state.status, play.state.failure) == (FAILED, FailureReason.PERMANENT_EXIT)
    assert play.notes(NoteKind.FAILED) == [f"exited with code {code}; not started again: permanent exit code"]


def test_exec_errors_that_stay_are_not_retried() -> None:
    play = Play(policy(P.ALWAYS)).tell(StartRequested())
    play.tell(SpawnFailed(1, ExitInfo(ExitReason.ERROR, "no such file", errno=2)))
    assert (play.state.status, play.state.failure) == (FAILED, FailureReason.NOT_EXECUTABLE)


def test_exec_errors_that_pass_are_retried() -> None:
    play = Play().tell(StartRequested())
    play.tell(SpawnFailed(1, ExitInfo(ExitReason.ERROR, "no memory", errno=12, transient=True)))
    assert play.state.status is AGAIN
    assert play.fires(TimerKind.BACKOFF).of(Spawn) == [Spawn(2)]


def test_what_was_refused_before_the_start_is_not_retried() -> None:
    play = Play(policy(P.ALWAYS)).tell(StartRequested())
    play.tell(SpawnFailed(1, ExitInfo(ExitReason.POLICY_VIOLATION, "no such user")))
    assert (play.state.status, play.state.failure) == (FAILED, FailureReason.REFUSED)


def test_a_failed_spawn_is_a_failure_whatever_its_code() -> None:
    assert Play().tell(StartRequested()).tell(SpawnFailed(1, ExitInfo.from_code(0))).state.status is AGAIN


def test_delays_grow_to_the_cap() -> None:
    play = Play().running()
    assert [play.fails_and_returns() for _ in range(6)] == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0]


def test_delay_zero_restarts_at_once_the_first_time_and_never_spins() -> None:
    play = Play(policy(backoff=BackoffConfig(initial_delay=0.0, jitter=0.0))).running()
    play.exits(1)
    assert (play.state.status, play.of(Spawn)) == (S.STARTING, [Spawn(2)])
    play.spawned()
    assert [play.fails_and_returns() for _ in range(3)] == pytest.approx([0.1, 0.2, 0.4])


def test_an_immediate_restart_during_the_start_is_told_too() -> None:
    play = Play(policy(backoff=BackoffConfig(initial_delay=0.0, jitter=0.0))).starting().exits(1)
    assert play.notes(NoteKind.STATUS) == ["incarnation 2"]


@pytest.mark.parametrize(("uniform", "delay_s"), [(0.0, 0.9), (0.5, 1.0), (0.999999, 1.1)])
def test_jitter_spreads_the_delay(uniform: float, delay_s: float) -> None:
    play = Play(policy(backoff=BackoffConfig(initial_delay=1.0, jitter=0.1)), uniform=uniform).running().exits(1)
    assert play.state.next_start_s == pytest.approx(play.now_s + delay_s, abs=1e-5)


@pytest.mark.parametrize(("ran_s", "delay_s"), [(59.9, 2.0), (60.0, 1.0)])
def test_a_stable_run_starts_a_new_row(ran_s: float, delay_s: float) -> None:
    play = Play(policy(reset_after=60.0)).running()
    play.fails_and_returns()
    play.exits(1, after_s=ran_s)
    assert play.state.next_start_s == pytest.approx(play.now_s + delay_s)


def test_only_time_after_readiness_makes_a_run_stable() -> None:
    play = Play(policy(reset_after=60.0, start_timeout_s=0.0)).running()
    play.fails_and_returns()
    play.exits(1).fires(TimerKind.BACKOFF).spawned(awaits_ready=True).exits(1, after_s=1000.0)
    assert play.state.attempt == 3


def test_max_retries_counts_restarts_in_a_row() -> None:
    play = Play(policy(P.MAX_RETRIES, BackoffConfig(1.0, max_retries=2, jitter=0.0))).running()
    play.fails_and_returns()
    play.fails_and_returns()
    play.exits(1)
    assert (play.state.status, play.state.failure) == (FAILED, FailureReason.MAX_RETRIES)
    assert play.count(Spawn) == 3


def test_max_retries_starts_anew_after_a_stable_run() -> None:
    play = Play(policy(backoff=BackoffConfig(1.0, max_retries=1, jitter=0.0), reset_after=60.0)).running()
    play.fails_and_returns()
    assert play.exits(1, after_s=61.0).state.status is AGAIN


def test_max_retries_zero_never_restarts_by_itself() -> None:
    play = Play(policy(backoff=BackoffConfig(1.0, max_retries=0))).running().exits(1)
    assert play.state.failure is FailureReason.MAX_RETRIES


def test_a_start_by_hand_is_a_new_row() -> None:
    play = Play(policy(backoff=BackoffConfig(1.0, max_retries=1, jitter=0.0))).running()
    play.fails_and_returns()
    play.exits(1).tell(StartRequested())
    assert (play.state.attempt, play.state.failure) == (0, None)
    assert play.spawned().exits(1).state.status is AGAIN


@pytest.mark.parametrize(("gap_s", "status"), [(9.9, FAILED), (10.0, AGAIN)])
def test_crash_limit_counts_inside_the_window(gap_s: float, status: DaemonStatus) -> None:
    rules = policy(backoff=BackoffConfig(0.0, jitter=0.0), crash_limit=2, crash_window=10.0)
    play = Play(rules).running().exits(1).spawned().exits(1, after_s=gap_s)
    assert play.state.status is status
    assert (play.state.failure is FailureReason.CRASH_LIMIT) == (status is FAILED)


def test_success_does_not_count_as_a_crash() -> None:
    play = Play(policy(P.ALWAYS, crash_limit=2, crash_window=1000.0)).running()
    for _ in range(5):
        play.exits(0).fires(TimerKind.BACKOFF).spawned()
    assert play.state.status is S.RUNNING


def test_failures_kept_are_bounded_by_the_limit() -> None:
    play = Play(policy(crash_limit=3, crash_window=4.0, reset_after=1e9)).running()
    for _ in range(20):
        play.fails_and_returns()
        assert len(play.state.failures_s) < 3


def test_unhealthy_stops_and_counts_as_a_failure() -> None:
    play = Play().running().tell(BecameUnhealthy(1, "no answer"))
    assert play.state.status is S.STOPPING
    assert play.of(SendSignal)
    assert play.notes(NoteKind.UNHEALTHY) == ["unhealthy: no answer"]
    play.exits(0)
    assert (play.state.status, play.state.attempt) == (AGAIN, 1)
    assert play.state.exit is not None
    assert play.state.exit.message == "unhealthy: no answer; exited with code 0"


def test_never_ready_ends_at_the_start_timeout_as_a_failure() -> None:
    play = Play(policy(start_timeout_s=5.0)).starting().fires(TimerKind.START)
    assert play.notes(NoteKind.START_TIMEOUT) == ["not ready within 5 s"]
    assert play.state.status is S.STOPPING
    assert play.exits(0).state.status is AGAIN


def test_no_start_timeout_waits_without_limit() -> None:
    assert Play(policy(start_timeout_s=0.0)).starting().state.timers == ()


def test_ready_disarms_the_start_timeout() -> None:
    assert Play().running().state.timers == ()


def test_readiness_that_overtakes_the_spawn_counts() -> None:
    play = Play().tell(StartRequested()).tell(BecameReady(1))
    assert play.state.status is S.STARTING
    play.spawned(awaits_ready=True)
    assert (play.state.status, play.state.timers) == (S.RUNNING, ())


def test_an_exit_that_overtakes_the_spawn_is_an_end() -> None:
    play = Play().tell(StartRequested()).exits(1)
    assert play.state.status is AGAIN
    assert play.spawned().state.status is AGAIN


def test_pausing_during_the_start_stops_the_clock_and_going_on_starts_it_anew() -> None:
    play = Play(policy(start_timeout_s=5.0)).starting().tell(Paused(1), after_s=4.0)
    assert play.state.timers == ()
    play.tell(Continued(1), after_s=100.0)
    timer = play.state.timer(TimerKind.START)
    assert timer is not None
    assert (play.state.status, timer.deadline_s) == (S.STARTING, play.now_s + 5.0)


def test_a_blocked_start_waits_for_its_dependencies() -> None:
    play = Play().tell(StartRequested(blocked=True))
    assert not play.of(Spawn)
    assert play.tell(DependenciesMet()).of(Spawn) == [Spawn(1)]
    assert not play.tell(DependenciesMet()).of(Spawn)


def test_a_restart_by_hand_in_backoff_starts_at_once() -> None:
    assert Play().running().exits(1).tell(RestartRequested()).of(Spawn) == [Spawn(2)]


def test_a_start_of_what_runs_does_nothing() -> None:
    play = Play().running()
    before = play.state
    assert (play.tell(StartRequested()).state, play.effects) == (before, ())


def test_automatic_restarts_are_counted() -> None:
    play = Play(policy(backoff=STEADY)).running()
    for _ in range(4):
        play.fails_and_returns()
    assert (play.state.restarts, play.state.instance) == (4, 5)
