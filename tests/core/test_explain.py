"""Why a daemon is as it is: for every status, from states that the lifecycle itself has come to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_args

import pytest

from duende.core import lifecycle
from duende.core.causes import CAUSES, cause_text
from duende.core.effects import Note
from duende.core.events import (
    BecameUnhealthy,
    BecameUnready,
    DependenciesMet,
    Event,
    KillRequested,
    Paused,
    RestartRequested,
    ScheduleResumed,
    SpawnFailed,
    StartRequested,
    StopRequested,
)
from duende.core.explain import HISTORY_MAX, Explanation, Subject, explain
from duende.core.foresight import Coming
from duende.core.state import DaemonState, TimerKind
from duende.model.condition import Condition
from duende.model.exits import ExitInfo, ExitReason
from duende.model.health import HealthStatus
from duende.model.restart import RestartPolicy
from duende.model.schedule import Overlap
from duende.model.signals import Signal
from duende.model.status import DaemonStatus
from duende.model.stop import StopStep

from .play import Play, policy
from .walk import Walk

READY, COMPLETED, HEALTHY = Condition.READY, Condition.COMPLETED, Condition.HEALTHY


def of(play: Play, **known: Any) -> Explanation:
    """What is said of one daemon alone, named web."""
    return among({"web": play}, **known)


def among(plays: Mapping[str, Play], after: Mapping[str, Any] | None = None, **known: Any) -> Explanation:
    """What is said of web, with others around it; `after` is by name, `known` is of web."""
    now_s = known.pop("now_s", max(play.now_s for play in plays.values()))
    events = known.pop("events", [])
    down = known.pop("is_shutting_down", False)
    subjects = {name: Subject(name, play.state, (after or {}).get(name, {})) for name, play in plays.items()}
    subjects["web"] = replace(subjects["web"], **known)
    return explain("web", subjects, events, now_s=now_s, is_shutting_down=down)


def coming(found: Explanation) -> list[str]:
    """`in 3: what`, `if …: what`."""
    lines = []
    for one in found.coming:
        parts = [one.daemon, f"in {one.in_s:g}" if one.in_s is not None else "", one.condition, one.what]
        lines.append(": ".join(part for part in parts if part))
    return lines


def commands(found: Explanation) -> list[str]:
    return [advice.command for advice in found.advice]


NOTHING = ["nothing: it stays like this until somebody asks for something else"]
BLOCKED = StartRequested(blocked=True)


# --- one daemon, status by status


def test_created() -> None:
    found = of(Play())
    assert (found.status, found.why) == (DaemonStatus.CREATED, "nobody has asked for it yet")
    assert coming(found) == NOTHING
    assert commands(found) == ["duende start web"]
    assert "autostart = false" in of(Play(), autostart=False).why


def test_created_with_a_schedule() -> None:
    play = Play(policy(overlap=Overlap.SKIP)).tell(ScheduleResumed())
    found = of(play, is_scheduled=True, next_run_s=1090.0, next_run_text="09:15")
    assert found.why == "it runs on its schedule, and has not run yet"
    assert coming(found) == ["in 90: a run of its schedule is due (09:15)"]


def test_starting_before_the_platform_has_answered() -> None:
    found = of(Play().tell(StartRequested()))
    assert found.why == "its process is being made"
    assert coming(found) == ["when the platform has answered: its process is executed"]


def test_starting_says_when_its_time_is_over() -> None:
    play = Play(policy(start_timeout_s=30.0)).starting()
    found = of(play, now_s=play.now_s + 10, says="loading", becomes_ready="it says so")
    assert found.why == (
        "its process is executed, and it is not ready yet: it will be when it says so; it says: loading"
    )  # fmt: skip
    assert coming(found)[0] == (
        "in 20: if it is not ready by then: its start has failed (not ready within 30 s): "
        "it is asked to end by SIGTERM"
    )  # fmt: skip
    assert commands(found) == ["duende logs -f web", "duende stop web"]


def test_starting_without_a_limit_has_no_time() -> None:
    assert all(one.in_s is None for one in of(Play(policy(start_timeout_s=0.0)).starting()).coming)


def test_running_says_what_an_end_would_mean() -> None:
    found = of(Play().running(), checks=(Coming("that is told", condition="if 3 checks fail"),))
    assert found.why == "its process runs and it is ready"
    assert coming(found) == [
        "if it ends with code 0 now: it counts as completed and is not started again",
        "if it fails now: it is started again after 1 s",
        "if 3 checks fail: that is told",
    ]
    assert commands(found) == []


@pytest.mark.parametrize(
    ("rules", "if_ok", "if_not"),
    [
        (policy(RestartPolicy.ALWAYS), "it is started again after 1 s", "it is started again after 1 s"),
        (policy(RestartPolicy.NEVER), "it counts as completed", "duende gives up on it (exited)"),
        (policy(crash_limit=1), "it counts as completed", "duende gives up on it (crash limit)"),
        (policy(crash_limit=1, retry_in=9.0), "it counts as", "gives up on it (crash limit), and tries anew after 9 s"),
    ],
)
def test_what_an_end_would_mean_is_what_the_lifecycle_does(rules: Any, if_ok: str, if_not: str) -> None:
    ok, fails = of(Play(rules).running()).coming
    assert if_ok in ok.what
    assert if_not in fails.what


def test_running_with_failures_behind_it_says_when_they_are_forgotten() -> None:
    play = Play(policy(crash_limit=5, crash_window=100.0, reset_after=60.0)).running()
    play.exits(1).fires(TimerKind.BACKOFF).spawned()
    found = of(play, now_s=play.now_s + 20)
    assert coming(found)[:2] == [
        "in 40: its run counts as stable: its row of 1 restart is forgotten",
        "in 79: the oldest of 1 failures leaves the crash window (limit 5)",
    ]


def test_running_and_unhealthy() -> None:
    found = of(Play().running(), health=HealthStatus.unhealthy("HTTP status 500"))
    assert found.why == "its process runs, but it is unhealthy: HTTP status 500"
    assert commands(found) == ["duende logs web", "duende restart web"]
    assert commands(of(Play().running(), health=HealthStatus.healthy())) == []


def test_running_and_not_ready_any_more() -> None:
    play = Play().running()
    found = of(play.tell(BecameUnready(play.state.instance, "port 80: refused")))
    assert (found.status, found.why) == (
        DaemonStatus.RUNNING,
        "its process runs, but it is not ready any more: port 80: refused",
    )


def test_paused() -> None:
    found = of(Play().paused())
    assert "SIGSTOP" in found.why
    assert commands(found) == ["duende signal CONT web"]


def test_stopping_by_hand() -> None:
    play = Play().running().tell(StopRequested())
    found = of(play, now_s=play.now_s + 4)
    assert found.why == "somebody has asked for a stop; it has been asked by SIGTERM"
    assert coming(found) == [
        "in 6: if it has not ended by then: the next step of its stop: SIGKILL, to all of it",
        "when it has ended: it stays stopped until it is started by name",
    ]
    assert commands(found) == ["duende signal --tree KILL web"]


def test_stopping_on_a_ladder_names_the_step_and_the_next() -> None:
    ladder = (StopStep(Signal.QUIT, wait_s=2.0), StopStep(command=("bye", "now"), wait_s=3.0))
    play = Play(policy(stop=ladder)).running().tell(StopRequested())
    assert of(play).why.endswith("it has been asked by SIGQUIT, step 1 of 2")
    assert coming(of(play))[0] == "in 2: if it has not ended by then: the next step of its stop: bye now"
    play.fires(TimerKind.STOP)
    assert of(play).why.endswith("it has been asked by bye now, step 2 of 2")
    assert coming(of(play))[0].endswith("SIGKILL, to all of it")
    play.fires(TimerKind.STOP)
    found = of(play)
    assert found.why.endswith("it has been sent SIGKILL and is still there")
    assert coming(found)[0].startswith("in 5: if the kernel has not ended it by then: SIGKILL again")
    assert commands(found) == ["duende ps web"]


@pytest.mark.parametrize(
    ("event", "why", "then"),
    [
        (RestartRequested(), "a new start was asked for", "it is started again at once"),
        (StopRequested(for_now=True), "the stack is being stopped", "until the stack is started"),
        (KillRequested(), "its end was asked for, at once", "until it is started by name"),
        (BecameUnhealthy(1, "no answer"), "duende stops it: unhealthy: no answer", "it is started again after 1 s"),
    ],
)
def test_stopping_says_for_what_and_what_follows(event: Event, why: str, then: str) -> None:
    found = of(Play().running().tell(event))
    assert found.status is DaemonStatus.STOPPING
    assert found.why.startswith(why)
    assert then in coming(found)[-1]


def test_stopping_before_the_platform_has_answered() -> None:
    found = of(Play().tell(StartRequested()).tell(StopRequested()))
    assert found.why == "somebody has asked for a stop; the platform has not said yet whether it exists"
    assert coming(found) == ["when the platform has answered: it is ended, as was asked for"]


def test_stopped_by_hand_stays_so() -> None:
    found = of(Play().running().tell(StopRequested()).exits(ExitInfo.from_signal(15)))
    assert found.why == "somebody has stopped it, and so it stays; its last end: stopped on request (killed by SIGTERM)"
    assert coming(found) == NOTHING
    assert commands(found) == ["duende start web"]


def test_stopped_for_now() -> None:
    found = of(Play().running().tell(StopRequested(for_now=True)).exits(0), is_shutting_down=True)
    assert found.why.startswith("it was stopped with the stack, for now")
    assert found.why.endswith("the whole stack is being stopped (`duende down`)")
    assert commands(found)[0] == "duende up"


def test_stopped_since_its_work_is_done() -> None:
    found = of(Play().running().exits(0))
    assert found.why == "it has done its work: exited with code 0"
    assert coming(found) == NOTHING


def test_stopped_between_two_runs_and_suspended() -> None:
    play = Play(policy(overlap=Overlap.QUEUE)).running().tell(StopRequested()).exits(0)
    assert of(play, is_scheduled=True).why.startswith("its schedule is suspended, since somebody stopped it")
    running = Play(policy(overlap=Overlap.QUEUE)).running()
    found = of(running, is_scheduled=True, next_run_s=running.now_s + 60, next_run_text="09:15")
    assert coming(found)[0] == (
        "in 60: a run of its schedule is due (09:15); if this one is not over by then, that follows when this one has "
        "ended"
    )


def test_backoff() -> None:
    play = Play().running().exits(3)
    found = of(play, now_s=play.now_s + 0.25)
    assert found.why == "exited with code 3; its restart policy (on-failure) says that it is tried again"
    assert coming(found) == [
        "in 0.75: it is started again (try 2 of this row)",
        "if it then fails again at once: it is started again after 2 s",
    ]
    assert commands(found) == ["duende logs web", "duende start web", "duende stop web"]


def test_what_its_end_means_to_others_is_told_while_it_may_come() -> None:
    meant = (Coming("spare is started (on_failure)", condition="once it has finally failed"),)
    lives = (Play().starting(), Play().running(), Play().running().exits(3))
    assert all(of(play, consequences=meant).coming[-1] == meant[0] for play in lives)
    assert coming(of(Play().running().exits(125), consequences=meant)) == NOTHING


def test_nothing_is_promised_to_one_that_waits_while_the_stack_stops() -> None:
    plays = {"web": Play().tell(BLOCKED), "db": Play().starting()}
    found = among(plays, {"web": {"db": READY}}, is_shutting_down=True)
    assert not [one for one in found.coming if one.what == "it is started"]


def test_backoff_before_the_last_try() -> None:
    rules = policy()
    limited = replace(rules.restart.backoff, max_retries=1)
    found = of(Play(replace(rules, restart=replace(rules.restart, backoff=limited))).running().exits(3))
    assert coming(found)[-1] == "if it then fails again at once: duende gives up on it (max retries)"


@pytest.mark.parametrize(
    ("rules", "exit_info", "reason", "first"),
    [
        (policy(RestartPolicy.NEVER), ExitInfo.from_code(1), "its restart policy is never", "duende logs web"),
        (policy(), ExitInfo.from_code(125), "no restart mends that exit code", "duende logs web"),
        (policy(crash_limit=1), ExitInfo.from_code(1), "1 failures within 60 s (restart.crash_limit)", "duende logs"),
    ],
)
def test_failed(rules: Any, exit_info: ExitInfo, reason: str, first: str) -> None:
    found = of(Play(rules).running().exits(exit_info))
    assert found.status is DaemonStatus.FAILED
    assert reason in found.why
    assert found.why.startswith(exit_info.message)
    assert coming(found) == NOTHING
    assert commands(found)[0].startswith(first)
    assert commands(found)[-1] == "duende start web"


def test_failed_since_retries_are_used_up() -> None:
    rules = policy(RestartPolicy.MAX_RETRIES, reset_after=7.0)
    play = Play(replace(rules, restart=replace(rules.restart, backoff=replace(rules.restart.backoff, max_retries=0))))
    assert "0 restarts in a row without a run of 7 s (restart.max_retries)" in of(play.running().exits(1)).why


@pytest.mark.parametrize(
    ("exit_info", "reason"),
    [
        (ExitInfo(ExitReason.ERROR, "cannot execute 'pyhton'", errno=2), "what can't be executed now"),
        (ExitInfo(ExitReason.POLICY_VIOLATION, "no user nobdy"), "it was refused before its start"),
    ],
)
def test_failed_before_it_ran(exit_info: ExitInfo, reason: str) -> None:
    play = Play().tell(StartRequested())
    found = of(play.tell(SpawnFailed(play.state.instance, exit_info)))
    assert reason in found.why
    assert commands(found) == ["duende check", "duende start web"]


def test_failed_and_to_be_tried_anew() -> None:
    found = of(Play(policy(crash_limit=1, retry_in=600.0)).running().exits(1))
    assert coming(found) == ["in 600: it is tried anew, with a new row of attempts (retry_in)"]


# --- those that wait


def test_a_waiting_one_tells_why_the_other_is_not_there_down_to_the_root() -> None:
    plays = {"web": Play().tell(BLOCKED), "api": Play().tell(BLOCKED), "db": Play().running().exits(3)}
    found = among(plays, {"web": {"api": READY}, "api": {"db": READY}})
    assert found.why == "it waits for api (ready)"
    (api,) = found.waits_for
    assert (api.name, api.status, api.why) == ("api", DaemonStatus.CREATED, "it waits for db (ready)")
    (db,) = api.waits_for
    assert (db.name, db.status) == ("db", DaemonStatus.BACKOFF)
    assert db.why.startswith("exited with code 3")
    assert coming(found) == [
        "as soon as api is ready: it is started",
        "db: in 1: it is started again (try 2 of this row)",
    ]
    assert commands(found) == ["duende logs db", "duende start db", "duende stop web"]


def test_only_what_is_not_there_is_told() -> None:
    plays = {"web": Play().tell(BLOCKED), "api": Play().running(), "db": Play().starting()}
    found = among(plays, {"web": {"api": READY, "db": READY}})
    assert [one.name for one in found.waits_for] == ["db"]
    assert "duende stop db" not in commands(found)


@pytest.mark.parametrize(
    ("condition", "other", "why"),
    [
        (READY, Play(), "nobody has asked for it yet"),
        (READY, Play().running().tell(StopRequested()).exits(0), "somebody has stopped it, and so it stays"),
        (READY, Play().running().exits(125), "duende has given up on it"),
        (COMPLETED, Play().running(), "it runs and has not completed yet"),
        (HEALTHY, Play().running(), "its health check has not answered yet"),
    ],
)
def test_why_the_other_is_not_there(condition: Condition, other: Play, why: str) -> None:
    found = among({"web": Play().tell(BLOCKED), "db": other}, {"web": {"db": condition}})
    assert why in found.waits_for[0].why
    assert found.coming[-1].condition == f"as soon as db is {condition.value}" or found.coming[-1].daemon == "db"
    assert commands(found)[0].endswith(" db")


def test_one_that_the_stack_does_not_have() -> None:
    found = among({"web": Play().tell(BLOCKED)}, {"web": {"gone": READY}})
    assert [(one.name, one.status) for one in found.waits_for] == [("gone", None)]
    assert commands(found)[0] == "duende check"


def test_a_diamond_is_told_once() -> None:
    """With n daemons in layers that all wait for all, the tree would grow without end."""
    names = [f"d{layer}-{n}" for layer in range(12) for n in range(3)]
    plays = {name: Play().tell(BLOCKED) for name in ["web", *names]}
    after = {f"d{layer}-{n}": {f"d{layer + 1}-{m}": READY for m in range(3)} for layer in range(11) for n in range(3)}
    found = among(plays, {"web": {f"d0-{n}": READY for n in range(3)}, **after})
    rest, count = list(found.waits_for), 0
    while rest:
        count += 1
        rest.extend(rest.pop().waits_for)
    assert count <= 3 * (len(names) + 1)


def test_a_stop_with_a_start_behind_it_tells_both() -> None:
    web = Play().running().tell(StopRequested()).tell(BLOCKED)
    found = among({"web": web, "db": Play()}, {"web": {"db": READY}})
    assert found.why.endswith("; after that it waits for db (ready)")
    assert "it waits for what it comes after, and is started then" in coming(found)[-1]
    released = web.tell(DependenciesMet())
    assert among({"web": released, "db": Play()}, {"web": {"db": READY}}).waits_for == ()


# --- what led here


def event(number: int, cause: str, status: str = "starting", **data: Any) -> dict[str, Any]:
    return {
        "seq": number, "time": "2026-11-21T02:36:00.000000Z", "daemon": "web", "kind": "status", "status": status,
        "cause": cause, "message": f"incarnation {number}", "data": data,
    }  # fmt: skip


def test_the_last_events_are_told_with_their_causes() -> None:
    events = [event(number, "TimerFired", before="backoff") for number in range(1, 31)]
    history = of(Play().running(), events=events).history
    assert [one["seq"] for one in history] == list(range(31 - HISTORY_MAX, 31))
    assert history[0]["because"] == "the wait before the next try was over"


def test_a_final_failure_is_told_once() -> None:
    failed = event(2, "Exited", "failed")
    events = [event(1, "Exited", "failed"), {**failed, "kind": "failed"}, failed, event(3, "StartRequested")]
    assert [(one["seq"], one["kind"]) for one in of(Play(), events=events).history] == [
        (1, "status"), (2, "failed"), (3, "status"),
    ]  # fmt: skip


def test_every_event_of_the_core_has_words() -> None:
    lost = [kind.__name__ for kind in get_args(Event) if kind.__name__ not in CAUSES]
    assert not lost


def test_a_timer_is_told_by_what_it_was_for() -> None:
    told = {cause_text(event(1, "TimerFired", status, before=before)) for before, status in (
        ("backoff", "starting"), ("failed", "starting"), ("starting", "stopping"), ("stopping", "stopping"),
    )}  # fmt: skip
    assert len(told) == 4
    assert cause_text(event(1, "TimerFired")) == CAUSES["TimerFired"]
    assert cause_text(event(1, "")) == ""
    assert cause_text(event(1, "SomethingNew")) == "something new"


# --- all of them


def test_every_status_is_explained_and_is_json() -> None:
    """Walks through a life, so that no state on the way has nothing to say."""
    play, seen = Play(policy(crash_limit=3)), set()
    for act in (
        lambda: play.tell(StartRequested()), play.spawned, lambda: play.tell(Paused(play.state.instance)),
        lambda: play.tell(StopRequested()), lambda: play.exits(0), lambda: play.tell(StartRequested()), play.spawned,
        play.exits, lambda: play.fires(TimerKind.BACKOFF), play.spawned, play.exits,
        lambda: play.fires(TimerKind.BACKOFF), play.spawned, play.exits,
    ):  # fmt: skip
        found = of(play).to_json()
        seen.add(found["status"])
        assert found["why"]
        assert found["next"]
        act()
    seen.add(of(play).to_json()["status"])
    assert seen == {status.value for status in DaemonStatus}
    assert not [effect for effect in play.effects if isinstance(effect, Note) and not effect.text]


def test_wherever_a_walk_leads_there_is_an_explanation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in states that nobody has thought of; and asking never changes what happens."""
    step, seen = lifecycle.step, set()

    def watched(state: DaemonState, event: Event, *, now_s: float, uniform: float) -> lifecycle.Outcome:
        after, effects = step(state, event, now_s=now_s, uniform=uniform)
        if (key := (after.status, after.waiting, type(event), len(after.timers))) not in seen:
            seen.add(key)
            found = explain("web", {"web": Subject("web", after)}, [], now_s=now_s).to_json()
            assert found["why"], after
            assert found["next"], after
            assert all(one["in_s"] is None or one["in_s"] >= 0.0 for one in found["next"]), after
        return after, effects

    monkeypatch.setattr(lifecycle, "step", watched)
    for seed in range(60):
        Walk(seed).run()
    assert {key[0] for key in seen} == set(DaemonStatus)
