"""What a slot of a schedule means for a daemon where it stands: run, replace, queue or leave out."""

from __future__ import annotations

from duende.core.effects import NoteKind, SendSignal, Spawn
from duende.core.events import (
    DependenciesMet,
    KillRequested,
    RunDue,
    ScheduleResumed,
    SlotPassed,
    SpawnFailed,
    StartRequested,
    StopRequested,
)
from duende.core.state import TimerKind
from duende.model.exits import ExitInfo, ExitReason
from duende.model.schedule import Moment, Overlap
from duende.model.status import DaemonStatus

from .play import Play, policy


def slot(n: int) -> Moment:
    return Moment(60.0 * n, 60.0 * n)


def scheduled(overlap: Overlap = Overlap.SKIP, **rules: object) -> Play:
    """Its schedule counts from slot 0."""
    play = Play(policy(overlap=overlap, **rules)).tell(ScheduleResumed())
    return play.tell(SlotPassed(None, slot(0)))


def due(play: Play, n: int, *, blocked: bool = False) -> Play:
    return play.tell(RunDue(play.state.slot, slot(n), f"slot {n}", blocked=blocked))


def test_a_schedule_that_is_resumed_starts_nothing() -> None:
    play = scheduled()
    assert play.count(Spawn) == 0
    assert play.state.status is DaemonStatus.CREATED
    assert play.state.wanted


def test_a_slot_is_noted_in_the_step_that_asks_for_the_spawn() -> None:
    play = due(scheduled(), 1)
    assert play.of(Spawn) == [Spawn(1)]
    assert play.state.slot == slot(1)


def test_a_slot_that_is_told_twice_runs_once() -> None:
    play = scheduled()
    event = RunDue(play.state.slot, slot(1), "slot 1")
    play.tell(event).spawned().exits(0).tell(event)
    assert play.effects == ()
    assert play.count(Spawn) == 1


def test_a_run_that_has_completed_is_followed_by_the_next() -> None:
    play = due(scheduled(), 1).spawned().exits(0)
    assert (play.state.status, play.state.completed) == (DaemonStatus.STOPPED, True)
    due(play, 2)
    assert play.of(Spawn) == [Spawn(2)]
    assert play.state.restarts == 0
    assert not play.state.completed, "who waits for its completion waits for this run"


def test_a_failed_run_is_tried_again_until_the_next_slot_begins_a_new_row() -> None:
    play = due(scheduled(), 1).spawned().exits(1)
    assert play.state.status is DaemonStatus.BACKOFF
    play.fires(TimerKind.BACKOFF).spawned().exits(1)
    assert (play.state.attempt, play.state.restarts) == (2, 1)
    due(play, 2).spawned()
    assert (play.state.instance, play.state.attempt, play.state.restarts) == (3, 0, 1)
    assert play.exits(0).state.completed


def test_a_run_that_failed_for_good_is_followed_by_the_next() -> None:
    play = due(scheduled(), 1).spawned().exits(125)
    assert play.state.status is DaemonStatus.FAILED
    assert due(play, 2).of(Spawn) == [Spawn(2)]


def test_a_slot_waits_for_dependencies_and_a_second_one_does_not_pile_up() -> None:
    play = due(scheduled(), 1, blocked=True)
    assert play.state.waiting
    assert due(play, 2).notes(NoteKind.OVERLAP) == [
        "the run of slot 2 is left out: the one before it still waits to start"
    ]
    assert play.tell(DependenciesMet()).of(Spawn) == [Spawn(1)]


def test_skip_leaves_a_slot_out_while_the_run_before_it_goes_on() -> None:
    play = due(due(scheduled(Overlap.SKIP), 1).spawned(), 2)
    assert play.notes(NoteKind.OVERLAP) == ["the run of slot 2 is left out: the one before it still runs"]
    assert play.exits(0).count(Spawn) == 1
    assert due(play, 3).of(Spawn) == [Spawn(2)]


def test_queue_lets_one_run_follow_however_many_slots_come() -> None:
    play = due(due(due(scheduled(Overlap.QUEUE), 1).spawned(), 2), 3)
    assert play.notes(NoteKind.OVERLAP) == ["the run of slot 3 is left out: one is queued already"]
    assert play.exits(0).of(Spawn) == [Spawn(2)]
    assert play.spawned().exits(0).state.status is DaemonStatus.STOPPED


def test_a_queued_run_takes_the_place_of_a_retry() -> None:
    play = due(due(scheduled(Overlap.QUEUE), 1).spawned(), 2).exits(1)
    assert play.of(Spawn) == [Spawn(2)]
    assert (play.state.attempt, play.state.timers, play.state.restarts) == (0, (), 0)


def test_a_queued_run_follows_one_that_could_not_be_started() -> None:
    play = due(due(scheduled(Overlap.QUEUE), 1), 2)
    play.tell(SpawnFailed(1, ExitInfo(ExitReason.ERROR, "no such file", errno=2)))
    assert play.of(Spawn) == [Spawn(2)]


def test_replace_stops_the_run_before_and_never_has_two() -> None:
    play = due(due(scheduled(Overlap.REPLACE), 1).spawned(), 2)
    assert play.notes(NoteKind.OVERLAP) == ["stopped for the run of slot 2"]
    assert len(play.of(SendSignal)) == 1
    assert play.count(Spawn) == 1
    due(play, 3)  # while it stops
    assert play.count(Spawn) == 1
    assert play.exits(ExitInfo.from_signal(15)).of(Spawn) == [Spawn(2)]
    assert play.spawned().exits(0).count(Spawn) == 2


def test_a_stop_suspends_the_schedule_and_forgets_what_is_queued() -> None:
    play = due(due(scheduled(Overlap.QUEUE), 1).spawned(), 2)
    after = play.state.slot
    play.tell(StopRequested()).exits(ExitInfo.from_signal(15))
    assert play.count(Spawn) == 1
    assert (play.state.slot, play.state.queued) == (None, False)
    play.tell(RunDue(after, slot(3), "slot 3")).tell(RunDue(None, slot(3), "slot 3")).tell(SlotPassed(None, slot(3)))
    assert play.count(Spawn) == 1
    assert play.state.slot is None


def test_a_kill_suspends_it_too() -> None:
    play = due(scheduled(), 1).spawned().tell(KillRequested())
    assert play.state.slot is None


def test_a_start_by_hand_runs_at_once_and_resumes_the_schedule() -> None:
    play = scheduled().tell(StopRequested()).tell(StartRequested())
    assert play.of(Spawn) == [Spawn(1)]
    play.spawned().exits(0).tell(SlotPassed(None, slot(5)))
    assert due(play, 6).of(Spawn) == [Spawn(2)]


def test_a_slot_during_down_is_left_out_and_noted() -> None:
    play = due(scheduled(Overlap.REPLACE), 1).spawned().tell(StopRequested(for_now=True))
    assert due(play, 2).notes(NoteKind.OVERLAP) == ["the run of slot 2 is left out: it is being stopped"]
    assert play.exits(ExitInfo.from_signal(15)).state.status is DaemonStatus.STOPPED
    assert play.state.slot == slot(2)
    assert play.state.wanted


def test_what_was_missed_is_told() -> None:
    play = scheduled().tell(SlotPassed(slot(0), slot(9), "9 runs were missed"))
    assert play.notes(NoteKind.MISSED) == ["9 runs were missed"]
    play.tell(RunDue(slot(9), slot(12), "slot 12", "2 earlier runs were missed"))
    assert play.notes(NoteKind.MISSED) == ["2 earlier runs were missed"]


def test_slots_mean_nothing_to_a_daemon_without_a_schedule() -> None:
    play = Play().running()
    play.tell(RunDue(None, slot(1), "slot 1")).tell(SlotPassed(None, slot(1)))
    assert play.effects == ()
    assert play.state.slot is None
