"""What is worth waking somebody, over whole lives of a daemon: once a row of trouble, and the good news once."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duende.core import alarm as core
from duende.core.alarm import Alarm
from duende.core.effects import Note
from duende.core.events import (
    BecameUnhealthy,
    Event,
    Exited,
    Paused,
    RestartRequested,
    Spawned,
    StartRequested,
    StopRequested,
    TimerFired,
)
from duende.core.lifecycle import step
from duende.core.policy import LifecyclePolicy
from duende.core.state import DaemonState
from duende.model.exits import ExitInfo
from duende.model.restart import BackoffConfig, RestartConfig, RestartPolicy
from duende.model.status import DaemonStatus

RESET_S = 60.0


class Life:
    """A daemon with its alarm, as the driver keeps them; `told` is what hooks would get."""

    def __init__(
        self, *, max_retries: int | None = None, retry_in_s: float = 0.0,
        policy: RestartPolicy = RestartPolicy.ON_FAILURE,
    ) -> None:  # fmt: skip
        backoff = BackoffConfig(initial_delay=1.0, max_delay=1.0, multiplier=1.0, jitter=0.0, max_retries=max_retries)
        rules = RestartConfig(policy=policy, backoff=backoff, reset_after=RESET_S, retry_in=retry_in_s)
        self.state = DaemonState(policy=LifecyclePolicy(restart=rules))
        self.alarm = Alarm()
        self.now_s = 0.0
        self.told: list[str] = []
        self.again: list[str] = []

    def post(self, event: Event) -> None:
        before = self.state
        self.state, effects = step(before, event, now_s=self.now_s, uniform=0.5)
        self.alarm, notes, again = core.after_step(self.alarm, before, self.state, event)
        for effect in (*notes, *effects):
            if isinstance(effect, Note) and effect.kind.value != "status":
                is_news = core.is_news(again, effect, self.alarm)
                (self.told if is_news else self.again).append(effect.kind.value)
        assert Alarm.from_json(self.alarm.to_json()) == self.alarm

    def spawn(self) -> None:
        assert self.state.status is DaemonStatus.STARTING
        self.post(Spawned(self.state.instance, awaits_ready=False))

    def start(self) -> None:
        self.post(StartRequested())
        self.spawn()

    def exit(self, info: ExitInfo) -> None:
        self.post(Exited(self.state.instance, info))

    def next_try(self) -> None:
        (timer,) = self.state.timers
        self.now_s = timer.deadline_s
        self.post(TimerFired(timer.token))
        self.spawn()

    def crash(self, times: int, info: ExitInfo | None = None) -> None:
        for _ in range(times):
            self.exit(replace(info or ExitInfo.from_code(1)))  # each exit is a value of its own
            if self.state.status is DaemonStatus.BACKOFF:
                self.next_try()

    def stay(self, seconds: float) -> None:
        """Time passes; the shell's timer is looked at."""
        self.now_s += seconds
        at_s = core.stable_at_s(self.alarm, self.state)
        if at_s is not None and at_s <= self.now_s:
            self.alarm, note = core.after_stable_run(self.alarm, self.state)
            self.told.append(note.kind.value)


def test_backoff_tells_nothing_and_the_end_of_all_retries_tells_once() -> None:
    life = Life(max_retries=3)
    life.start()
    life.crash(3)
    assert life.told == []
    life.crash(1)
    assert life.state.status is DaemonStatus.FAILED
    assert life.told == ["failed"]


def test_recovered_comes_after_a_stable_run_and_not_before() -> None:
    life = Life(max_retries=0)
    life.start()
    life.crash(1)
    life.start()
    life.stay(RESET_S - 1.0)
    assert life.told == ["failed"]
    life.stay(1.0)
    life.stay(1000.0)
    assert life.told == ["failed", "recovered"]


def test_a_daemon_that_never_failed_does_not_recover() -> None:
    life = Life()
    life.start()
    life.crash(2)
    life.stay(10 * RESET_S)
    assert life.told == []


def test_a_crash_loop_is_told_once_until_a_stable_run_ends_it() -> None:
    life = Life(policy=RestartPolicy.ALWAYS)
    life.start()
    life.crash(core.CRASH_LOOP_AFTER - 1)
    assert life.told == []
    life.crash(50)
    assert life.told == ["crash-loop"]
    life.stay(RESET_S)
    life.crash(core.CRASH_LOOP_AFTER)
    assert life.told == ["crash-loop", "recovered", "crash-loop"]


def test_memory_that_runs_out_at_every_try_is_told_once() -> None:
    life = Life()
    life.start()
    life.crash(4, ExitInfo.out_of_memory(limit_bytes=1000))
    assert life.told == ["oom"]
    assert life.again == []  # nor is it in the log again: each exit says so


def test_who_starts_it_by_hand_is_told_that_it_failed_again() -> None:
    life = Life(max_retries=0)
    for _ in range(2):
        life.start()
        life.crash(1)
    assert life.told == ["failed", "failed"]


def test_what_is_tried_anew_after_every_failure_has_failed_once() -> None:
    life = Life(max_retries=1, retry_in_s=300.0)
    life.start()
    for _ in range(4):
        life.crash(2)
        assert life.state.status is DaemonStatus.FAILED
        life.next_try()
    assert (life.told, life.again) == (["failed"], ["failed"] * 3)
    life.stay(RESET_S)
    life.crash(2)
    assert life.told == ["failed", "recovered", "failed"]


def test_who_stops_it_by_hand_knows() -> None:
    life = Life(policy=RestartPolicy.ALWAYS)
    life.start()
    life.crash(core.CRASH_LOOP_AFTER)
    life.post(StopRequested())
    life.exit(ExitInfo.from_signal(15))
    life.start()
    life.stay(2 * RESET_S)
    assert life.told == ["crash-loop"]


def test_down_and_up_do_not_make_it_well() -> None:
    life = Life(max_retries=0)
    life.start()
    life.crash(1)
    life.post(StopRequested(for_now=True))
    life.start()
    life.stay(RESET_S)
    assert life.told == ["failed", "recovered"]


def test_a_job_that_succeeds_at_last_has_recovered() -> None:
    life = Life(max_retries=0)
    life.start()
    life.crash(1)
    life.start()
    life.exit(ExitInfo.from_code(0))
    assert life.state.completed
    assert life.told == ["failed", "recovered"]


def test_a_paused_daemon_does_not_recover() -> None:
    life = Life(max_retries=0)
    life.start()
    life.crash(1)
    life.start()
    life.post(Paused(life.state.instance))
    assert core.stable_at_s(life.alarm, life.state) is None


def test_unhealthy_over_restarts_is_told_once_and_so_is_healthy() -> None:
    life = Life()
    life.start()
    news = []
    for _ in range(3):
        life.alarm, is_news = core.on_health(life.alarm, healthy=False, settled=True)
        news.append(is_news)
        life.post(BecameUnhealthy(life.state.instance, "no answer"))
        life.exit(ExitInfo.from_signal(15))
        life.next_try()
    assert news == [True, False, False]
    assert "unhealthy" not in life.told, "the check has told it"
    life.alarm, first = core.on_health(life.alarm, healthy=True, settled=False)
    life.alarm, second = core.on_health(life.alarm, healthy=True, settled=False)
    assert (first, second) == (True, False)


@pytest.mark.parametrize("healthy", [True, False])
def test_a_single_answer_is_no_news(healthy: bool) -> None:
    assert core.on_health(Alarm(), healthy=healthy, settled=False) == (Alarm(), False)


_ACT = st.sampled_from(["start", "restart", "stop", "crash", "end", "oom", "try", "stay", "short"])


@given(acts=st.lists(_ACT, max_size=60), max_retries=st.sampled_from([None, 0, 2]))
def test_in_any_life_nothing_is_told_twice_without_its_end_or_somebody_between(
    acts: list[str], max_retries: int | None
) -> None:
    life = Life(max_retries=max_retries)
    open_kinds: set[str] = set()
    for act in acts:
        before = len(life.told)
        state = life.state
        match act:
            case "start" | "restart" | "stop":
                life.post({"start": StartRequested(), "restart": RestartRequested(), "stop": StopRequested()}[act])
                open_kinds.clear()
                if life.state.status is DaemonStatus.STARTING and not life.state.executed:
                    life.spawn()
            case "crash" | "end" | "oom" if state.executed:
                info = {"crash": ExitInfo.from_code(1), "end": ExitInfo.from_code(0)}.get(act)
                life.exit(info or ExitInfo.out_of_memory(limit_bytes=None))
                if life.state.status is DaemonStatus.STARTING:
                    life.spawn()
            case "try" if state.status is DaemonStatus.BACKOFF:
                life.next_try()
            case "stay" | "short":
                life.stay(RESET_S if act == "stay" else 1.0)
        for kind in life.told[before:]:
            assert kind not in open_kinds, (kind, life.told)
            open_kinds.add(kind)
            if kind == "recovered":
                assert not life.alarm.owes_recovered
                open_kinds.clear()
