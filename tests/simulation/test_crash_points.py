"""Crash-point enumeration: one story, told as often as it has boundaries; each time the manager dies at another one.

A boundary is before and after each commit and each call of the adapter that anybody outside could notice. Whoever asked
and got no answer asks again. The story must end the same, whatever dies when.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from duende.config.daemon import DaemonConfig, KillMode, ReadyConfig, StackConfig
from duende.model.condition import Condition
from duende.model.restart import BackoffConfig, RestartConfig, RestartPolicy

from . import stories
from .kernel import Behaviour
from .plan import Plan, Step
from .play import Played, play

pytestmark = pytest.mark.long

_RULES = RestartConfig(RestartPolicy.ALWAYS, BackoffConfig(initial_delay=0.5, jitter=0.0))
_STACK = StackConfig("sim", {
    "db": DaemonConfig("db", command=("db",), ready=ReadyConfig(notify=True), restart=_RULES),
    "web": DaemonConfig("web", daemon="shop:Web", after={"db": Condition.READY}, restart=_RULES),
    "log": DaemonConfig("log", command=("log",), restart=_RULES, kill_mode=KillMode.CONTROL_GROUP),
}, Path("/"))  # fmt: skip
_BEFORE_DOWN = (
    Step(1005.0, "end", ("db",), 3),
    Step(1010.0, "restart", ("web",)),
    Step(1020.0, "stop", ("log",)),
)
_DOWN = (*_BEFORE_DOWN, Step(1040.0, "down"))
_BEHAVIOUR = Behaviour(ready_s=0.02, obeys_s=0.05, children=1)


def _story(steps: tuple[Step, ...], *, restarter: bool = True) -> Plan:
    return Plan(7, _STACK, steps, restarter=restarter, behaviour=_BEHAVIOUR, insists=True)


def _boundaries(plan: Plan) -> int:
    """How many the story has before the quiet, if nobody dies."""
    told = play(plan)
    assert told.violation is None
    return told.boundaries


def _names(told: Played) -> list[str]:
    return sorted({one.partition("#")[0] for one in told.was})


def _check(told: Played, expected: list[str], at: int) -> None:
    assert told.violation is None, f"killed at boundary {at}: {told.violation}\n{told.history}"
    assert _names(told) == expected, f"killed at boundary {at}: {told.was} instead of {expected}\n{told.history}"


@pytest.mark.parametrize("keeper_too", [False, True], ids=["manager", "manager-and-keeper"])
@pytest.mark.parametrize("restarter", [True, False], ids=["restarter", "up-by-hand"])
def test_a_manager_killed_at_any_boundary_changes_nothing_but_time(restarter: bool, keeper_too: bool) -> None:
    steps = _BEFORE_DOWN if restarter else (*_BEFORE_DOWN, *(Step(at_s, "up") for at_s in (1003.0, 1008.0, 1015.0,
                                                                                         1025.0)))  # fmt: skip
    plan = _story(steps, restarter=restarter)
    count = _boundaries(plan)
    assert count > 50
    for at in range(1, count + 1):
        _check(play(plan, kill_at=at, kill_keeper_too=keeper_too), ["db", "web"], at)


@pytest.mark.parametrize("keeper_too", [False, True], ids=["manager", "manager-and-keeper"])
def test_a_down_is_done_in_the_end_whenever_its_manager_is_killed(keeper_too: bool) -> None:
    plan = _story(_DOWN)
    for at in range(1, _boundaries(plan) + 1):
        _check(play(plan, kill_at=at, kill_keeper_too=keeper_too), [], at)


@pytest.mark.parametrize("plan", [stories.ENDS_UNSEEN, stories.NEWER_BESIDE_RECORD], ids=["ends-unseen", "disk-full"])
def test_a_story_holds_whenever_its_manager_was_killed(plan: Plan) -> None:
    for at in range(1, _boundaries(plan) + 1):
        told = play(plan, kill_at=at)
        assert told.violation is None, f"killed at boundary {at}: {told.violation}\n{told.history}"
