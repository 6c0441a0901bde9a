"""Stopping: the order of signals, what waits for what, and that a user's stop always wins."""

from __future__ import annotations

import pytest

from duende.core.effects import KillTree, NoteKind, RunStopCommand, SendSignal, Spawn
from duende.core.events import (
    BecameUnhealthy,
    DependenciesMet,
    KillRequested,
    Paused,
    PolicyChanged,
    RestartRequested,
    Spawned,
    SpawnFailed,
    StartRequested,
    StopRequested,
    StopStepFailed,
    TimerFired,
)
from duende.core.lifecycle import KILL_RETRY_S
from duende.core.state import TimerKind
from duende.model.exits import ExitInfo, ExitReason
from duende.model.restart import RestartPolicy
from duende.model.signals import Signal
from duende.model.status import DaemonStatus, FailureReason
from duende.model.stop import StopStep

from .play import Play, policy

KILLED = ExitInfo.from_signal(9)
TERMINATED = ExitInfo.from_signal(15)


def test_stop_sends_the_signal_to_the_leader_and_arms_the_deadline() -> None:
    play = Play(policy(shutdown_timeout_s=7.0, stop_signal=2)).running().tell(StopRequested())
    assert play.of(SendSignal) == [SendSignal(1, 2, tree=False)]
    timer = play.state.timer(TimerKind.STOP)
    assert timer is not None
    assert timer.deadline_s == play.now_s + 7.0


def test_kill_mode_control_group_signals_the_tree() -> None:
    assert Play(policy(stop_tree=True)).running().tell(StopRequested()).of(SendSignal) == [SendSignal(1, 15, tree=True)]


def test_stop_during_spawn_waits_for_the_answer() -> None:
    play = Play().tell(StartRequested()).tell(StopRequested())
    assert play.state.status is DaemonStatus.STOPPING
    assert not play.of(SendSignal)
    assert not play.state.timers
    play.spawned(awaits_ready=True)
    assert play.of(SendSignal) == [SendSignal(1, 15, tree=False)]
    assert play.exits(TERMINATED).state.status is DaemonStatus.STOPPED


def test_stop_during_a_spawn_that_fails_is_stopped_and_not_failed() -> None:
    play = Play().tell(StartRequested()).tell(StopRequested())
    play.tell(SpawnFailed(1, ExitInfo(ExitReason.ERROR, "no such file", errno=2)))
    assert play.state.status is DaemonStatus.STOPPED
    assert play.state.failure is None


def test_stop_during_backoff_never_spawns() -> None:
    play = Play().running().exits(1)
    timer = play.state.timer(TimerKind.BACKOFF)
    assert timer is not None
    play.tell(StopRequested())
    assert play.state.status is DaemonStatus.STOPPED
    assert play.tell(TimerFired(timer.token), after_s=60.0).effects == ()
    assert play.count(Spawn) == 1


def test_death_by_the_stop_signal_is_graceful() -> None:
    play = Play().running().tell(StopRequested()).exits(TERMINATED)
    assert play.state.exit is not None
    assert play.state.exit.reason is ExitReason.GRACEFUL
    assert play.state.exit.signal == 15


def test_a_stop_that_is_not_obeyed_escalates_to_the_whole_tree_and_says_so() -> None:
    play = Play(policy(shutdown_timeout_s=3.0)).running().tell(StopRequested()).fires(TimerKind.STOP)
    assert play.of(KillTree) == [KillTree(1, leader_only=False)]
    assert play.notes(NoteKind.ESCALATED) == ["SIGTERM did not end it within 3 s: SIGKILL"]
    play.exits(KILLED)
    assert play.state.status is DaemonStatus.STOPPED
    assert play.state.exit is not None
    assert play.state.exit.message == "did not stop within 3 s; killed by SIGKILL"


LADDER = (
    StopStep(command=("redis-cli", "shutdown"), wait_s=5.0),
    StopStep(Signal.QUIT, wait_s=2.0),
    StopStep(Signal.TERM, wait_s=1.0),
)


@pytest.mark.parametrize("last", [(), (StopStep(Signal.KILL, wait_s=0.0),)], ids=["implied", "written"])
def test_a_stop_climbs_its_ladder_rung_by_rung_and_says_so(last: tuple[StopStep, ...]) -> None:
    play = Play(policy(stop=LADDER + last)).running().tell(StopRequested())
    assert play.of(RunStopCommand) == [RunStopCommand(1, 0, ("redis-cli", "shutdown"), 5.0)]
    play.fires(TimerKind.STOP)
    assert play.of(SendSignal) == [SendSignal(1, int(Signal.QUIT), tree=False)]
    assert play.notes(NoteKind.STOP_STEP) == ["redis-cli shutdown did not end it within 5 s: SIGQUIT"]
    play.fires(TimerKind.STOP)
    assert play.of(SendSignal) == [SendSignal(1, int(Signal.TERM), tree=False)]
    play.fires(TimerKind.STOP)
    assert play.of(KillTree) == [KillTree(1, leader_only=False)]
    assert play.notes(NoteKind.ESCALATED) == ["SIGTERM did not end it within 1 s: SIGKILL"]
    assert play.exits(KILLED).state.exit is not None
    assert play.state.exit is not None
    assert play.state.exit.message == "did not stop within 8 s; killed by SIGKILL"


def test_a_stop_command_that_fails_does_not_cost_its_time() -> None:
    play = Play(policy(stop=LADDER)).running().tell(StopRequested())
    play.tell(StopStepFailed(1, 0, "redis-cli exited with 1"))
    assert play.of(SendSignal) == [SendSignal(1, int(Signal.QUIT), tree=False)]
    assert play.notes(NoteKind.STOP_STEP) == ["redis-cli exited with 1: SIGQUIT"]
    play.tell(StopStepFailed(1, 0, "again"))  # a rung that is behind us
    assert play.effects == ()
    play.exits(ExitInfo.from_signal(int(Signal.QUIT)))
    assert play.state.exit is not None
    assert play.state.exit.reason is ExitReason.GRACEFUL  # any signal of the ladder is what was asked for


def test_a_ladder_of_sigkill_alone_kills_at_once() -> None:
    play = Play(policy(stop=(StopStep(Signal.KILL, wait_s=0.0),))).running().tell(StopRequested())
    assert play.of(KillTree) == [KillTree(1, leader_only=False)]
    assert play.notes(NoteKind.ESCALATED) == []
    assert play.exits(KILLED).state.status is DaemonStatus.STOPPED


def test_a_shorter_ladder_in_the_midst_of_a_stop_ends_in_sigkill() -> None:
    play = Play(policy(stop=LADDER)).running().tell(StopRequested()).fires(TimerKind.STOP).fires(TimerKind.STOP)
    play.tell(PolicyChanged(policy(shutdown_timeout_s=3.0))).fires(TimerKind.STOP)
    assert play.of(KillTree) == [KillTree(1, leader_only=False)]


def test_kill_mode_process_kills_the_leader_only() -> None:
    play = Play(policy(kill_leader_only=True)).running().tell(StopRequested()).fires(TimerKind.STOP)
    assert play.of(KillTree) == [KillTree(1, leader_only=True)]


def test_sigkill_is_tried_again_until_it_works() -> None:
    play = Play().running().tell(StopRequested()).fires(TimerKind.STOP)
    for _ in range(5):
        before_s = play.now_s
        play.fires(TimerKind.KILL)
        assert play.now_s - before_s == KILL_RETRY_S
        assert play.of(KillTree)
        assert play.notes(NoteKind.ESCALATED)
    assert play.exits(KILLED).state.status is DaemonStatus.STOPPED


def test_a_paused_daemon_is_woken_for_its_stop() -> None:
    play = Play().paused().tell(StopRequested())
    assert play.of(SendSignal) == [SendSignal(1, 15, tree=False), SendSignal(1, 18, tree=False)]


def test_kill_gives_no_grace() -> None:
    play = Play().running().tell(KillRequested())
    assert play.of(KillTree)
    assert not play.of(SendSignal)
    assert play.exits(KILLED).state.status is DaemonStatus.STOPPED
    assert not play.state.wanted


def test_kill_during_spawn_kills_when_the_answer_comes() -> None:
    play = Play().tell(StartRequested()).tell(KillRequested())
    assert not play.of(KillTree)
    assert play.spawned().of(KillTree)


def test_kill_cuts_a_stop_short() -> None:
    play = Play().running().tell(StopRequested()).tell(KillRequested())
    assert play.of(KillTree)
    assert play.state.timer(TimerKind.STOP) is None


def test_a_second_stop_sends_no_second_signal() -> None:
    play = Play().running().tell(StopRequested()).tell(StopRequested())
    assert play.count(SendSignal) == 1


def test_a_second_answer_to_a_spawn_sends_no_second_signal() -> None:
    play = Play().tell(StartRequested()).tell(StopRequested()).spawned().tell(Spawned(1, awaits_ready=False))
    assert play.count(SendSignal) == 1


def test_a_failed_spawn_after_spawned_is_not_believed() -> None:
    play = Play().starting()
    assert play.tell(SpawnFailed(1, ExitInfo.from_code(1))).state.status is DaemonStatus.STARTING


def test_exit_before_the_stop_is_seen_is_a_stop() -> None:
    play = Play().running().tell(StopRequested()).exits(1)
    assert play.state.status is DaemonStatus.STOPPED


def test_restart_stops_and_starts_without_backoff() -> None:
    play = Play().running().tell(RestartRequested())
    assert play.of(SendSignal)
    play.exits(TERMINATED)
    assert play.of(Spawn) == [Spawn(2)]


def test_a_restart_by_hand_is_not_counted() -> None:
    play = Play().running().tell(RestartRequested()).exits(TERMINATED)
    assert (play.state.instance, play.state.restarts) == (2, 0)


def test_start_during_a_stop_starts_when_it_has_ended() -> None:
    play = Play().running().tell(StopRequested()).tell(StartRequested())
    assert not play.of(Spawn)
    assert play.exits(0).of(Spawn) == [Spawn(2)]


def test_start_during_a_stop_still_waits_for_dependencies() -> None:
    play = Play().running().tell(StopRequested()).tell(StartRequested(blocked=True)).exits(0)
    assert play.state.status is DaemonStatus.STOPPED
    assert play.state.waiting
    assert play.tell(DependenciesMet()).of(Spawn) == [Spawn(2)]


def test_dependencies_that_are_met_during_a_stop_count() -> None:
    play = Play().running().tell(StopRequested()).tell(StartRequested(blocked=True)).tell(DependenciesMet())
    assert play.exits(0).of(Spawn) == [Spawn(2)]


def test_a_blocked_start_survives_the_late_answer_of_a_stopped_spawn() -> None:
    """Found by a random walk: the stop that `Spawned` sets off must not forget that the next start has to wait."""
    play = Play().tell(StartRequested()).tell(StopRequested()).tell(StartRequested(blocked=True)).spawned().exits(0)
    assert play.state.waiting
    assert play.count(Spawn) == 1


def test_stop_during_a_restart_ends_stopped() -> None:
    play = Play().running().tell(RestartRequested()).tell(StopRequested()).exits(0)
    assert play.state.status is DaemonStatus.STOPPED
    assert play.count(Spawn) == 1


def test_user_stop_during_a_failure_stop_ends_stopped() -> None:
    play = Play().running().tell(BecameUnhealthy(1, "slow")).tell(StopRequested()).exits(TERMINATED)
    assert play.state.status is DaemonStatus.STOPPED
    assert not play.state.wanted


def test_stop_of_what_failed_keeps_the_reason() -> None:
    play = Play().running().exits(125).tell(StopRequested())
    assert (play.state.status, play.state.failure) == (DaemonStatus.FAILED, FailureReason.PERMANENT_EXIT)
    play.tell(StartRequested(blocked=True)).tell(StopRequested())
    assert (play.state.status, play.state.failure) == (DaemonStatus.FAILED, FailureReason.PERMANENT_EXIT)


def test_stop_for_now_keeps_what_is_wanted_and_still_stops() -> None:
    play = Play(policy(RestartPolicy.ALWAYS)).running().tell(StopRequested(for_now=True)).exits(0)
    assert (play.state.status, play.state.wanted) == (DaemonStatus.STOPPED, True)
    assert play.count(Spawn) == 1
    assert not play.state.completed


@pytest.mark.parametrize("restart", RestartPolicy)
@pytest.mark.parametrize("exit_info", [ExitInfo.from_code(0), ExitInfo.from_code(1), KILLED], ids=["0", "1", "KILL"])
def test_no_policy_restarts_after_a_stop(restart: RestartPolicy, exit_info: ExitInfo) -> None:
    play = Play(policy(restart)).running().tell(StopRequested()).exits(exit_info)
    assert play.state.status is DaemonStatus.STOPPED
    assert play.count(Spawn) == 1


def test_a_daemon_that_turns_out_to_be_held_during_its_stop_is_woken() -> None:
    play = Play().running().tell(StopRequested()).tell(Paused(1))
    assert play.state.status is DaemonStatus.STOPPING
    assert play.effects == (SendSignal(1, 18, tree=False),)


def test_a_daemon_that_is_being_killed_is_not_woken() -> None:
    play = Play().running().tell(KillRequested()).tell(Paused(1))
    assert play.effects == ()
