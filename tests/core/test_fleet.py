"""Dependency order: what is unmet, who goes first, who stops first, and cycles."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duende.core.events import DependenciesMet, Paused, RestartRequested, StartRequested, StopRequested
from duende.core.fleet import After, condition_met, cycle_in, dependents, start_layers, stop_layers, unmet
from duende.core.state import DaemonState
from duende.model.condition import Condition
from duende.model.exits import ExitInfo

from .play import Play, policy

C = Condition
NAMES = [f"d{number}" for number in range(9)]


PAIRS = [(NAMES[one], NAMES[other]) for one in range(9) for other in range(one)]


@st.composite
def stacks(draw: st.DrawFn) -> dict[str, dict[str, Condition]]:
    """A stack without a cycle, its names in any order. Links are the bits of a number: quick to make and to shrink."""
    bits = draw(st.integers(0, 2 ** len(PAIRS) - 1)) & draw(st.integers(0, 2 ** len(PAIRS) - 1))
    order = random.Random(draw(st.integers(0, 99))).sample(NAMES, len(NAMES))
    links = [pair for at, pair in enumerate(PAIRS) if bits >> at & 1]
    return {name: {other: C.READY for one, other in links if one == name} for name in order}


def ready(**names: str) -> After:
    """`ready(web="cache db")`: web waits for both to be ready."""
    return {name: dict.fromkeys(others.split(), C.READY) for name, others in names.items()}


def reaches(after: After, start: str, goal: str) -> bool:
    """Whether `start` waits for `goal`, directly or through others."""
    return any(other == goal or reaches(after, other, goal) for other in after.get(start, ()))


def after_stop(play: Play) -> DaemonState:
    """Stopped by request with exit code 0."""
    return play.tell(StopRequested()).exits(0).state


STATES = {
    "created": Play().state,
    "unanswered": Play().tell(StartRequested()).state,
    "executed": Play().starting().state,
    "running": Play().running().state,
    "paused": Play().running().tell(Paused(1)).state,
    "stopping": Play().running().tell(StopRequested()).state,
    "restarting": Play().running().tell(RestartRequested()).state,
    "stopped with 0": after_stop(Play().running()),
    "stopped for now with 0": Play().running().tell(StopRequested(for_now=True)).exits(0).state,
    "backoff": Play().running().exits(1).state,
    "failed": Play().running().exits(125).state,
    "completed": Play().running().exits(0).state,
    "completed with 3": Play(policy(success_exit_codes=frozenset({0, 3}))).running().exits(3).state,
    "completed, waits again": Play().running().exits(0).tell(StartRequested(blocked=True)).state,
    "completed, runs again": Play().running().exits(0).tell(StartRequested()).state,
    "completed, then stopped": Play().running().exits(0).tell(StopRequested()).state,
}
MET = {
    C.STARTED: {"executed", "running", "paused", "completed", "completed with 3"},
    C.READY: {"running", "paused", "completed", "completed with 3"},
    C.COMPLETED: {"completed", "completed with 3"},
    C.HEALTHY: {"running", "paused"},
}


@pytest.mark.parametrize("condition", Condition)
def test_condition_holds_in_exactly_these_states(condition: Condition) -> None:
    assert {name for name, state in STATES.items() if condition_met(condition, state, True)} == MET[condition]


def test_health_matters_only_for_healthy() -> None:
    for condition in Condition:
        unhealthy = {name for name, state in STATES.items() if condition_met(condition, state, False)}
        assert unhealthy == (set() if condition is C.HEALTHY else MET[condition])


def test_readiness_that_overtakes_the_spawn_is_not_yet_ready() -> None:
    assert not condition_met(C.READY, replace(STATES["unanswered"], ready=True), True)


def test_unmet_names_in_configured_order_what_is_missing() -> None:
    after = {"web": {"db": C.READY, "migrate": C.COMPLETED, "cache": C.STARTED, "auth": C.HEALTHY}}
    states = {"db": STATES["executed"], "migrate": STATES["running"], "cache": STATES["executed"]}
    assert unmet("web", after, states) == ("db", "migrate", "auth")
    states |= {"db": STATES["running"], "migrate": STATES["completed"], "auth": STATES["running"]}
    assert unmet("web", after, states) == ("auth",)
    assert unmet("web", after, states, healthy={"auth"}) == ()


def test_nothing_is_unmet_for_who_waits_for_nobody() -> None:
    assert unmet("web", {}, {}) == ()
    assert unmet("web", {"web": {}}, {}) == ()


def test_unmet_and_the_lifecycle_together_start_a_stack_in_order() -> None:
    after = ready(web="cache")
    cache, web = Play(), Play()
    cache.tell(StartRequested())
    web.tell(StartRequested(blocked=bool(unmet("web", after, {"cache": cache.state}))))
    assert web.state.waiting
    cache.spawned()
    assert not unmet("web", after, {"cache": cache.state})
    web.tell(DependenciesMet())
    assert web.state.instance == 1


def test_cycle_is_named_in_order_with_the_first_repeated() -> None:
    assert cycle_in(ready(a="b", b="c", c="a")) == ["a", "b", "c", "a"]
    assert cycle_in(ready(x="a", a="b", b="a")) == ["a", "b", "a"]
    assert cycle_in(ready(a="a")) == ["a", "a"]


def test_a_diamond_is_no_cycle() -> None:
    assert cycle_in(ready(a="b c", b="d", c="d")) is None
    assert cycle_in({}) is None


def test_a_chain_longer_than_the_recursion_limit_is_fine() -> None:
    chain = {f"d{number}": {f"d{number + 1}": C.READY} for number in range(5000)}
    assert cycle_in(chain) is None
    assert len(start_layers(chain)) == 5001
    found = cycle_in({**chain, "d5000": {"d0": C.READY}})
    assert found is not None
    assert len(found) == 5002


def test_layers_of_a_cycle_are_refused() -> None:
    with pytest.raises(ValueError, match="cycle among a, b"):
        start_layers(ready(a="b", b="a", c=""))
    with pytest.raises(ValueError, match="cycle among a, b"):
        stop_layers(["c"], ready(a="b", b="a", c=""))


def test_start_layers_are_as_early_as_possible() -> None:
    after = ready(web="cache db", cache="", worker="db", page="web")
    assert start_layers(after) == [("cache", "db"), ("web", "worker"), ("page",)]


def test_stop_layers_put_dependents_first() -> None:
    after = ready(web="cache db", worker="db", page="web")
    assert stop_layers(["db", "cache", "web", "page"], after) == [("page",), ("web",), ("db", "cache")]
    assert stop_layers(["db", "worker", "page"], after) == [("worker", "page"), ("db",)]


def test_stop_order_holds_through_daemons_that_stay() -> None:
    assert stop_layers(["a", "c"], ready(a="b", b="c")) == [("a",), ("c",)]


def test_stop_layers_take_names_that_nobody_configured() -> None:
    assert stop_layers(["stray"], {}) == [("stray",)]
    assert stop_layers([], ready(a="b")) == []


def test_dependents_is_the_reverse_map() -> None:
    assert dependents(ready(web="cache db", worker="db")) == {
        "web": (), "worker": (), "cache": ("web",), "db": ("web", "worker"),
    }  # fmt: skip


@given(stacks())
def test_start_layers_hold_everyone_once_and_never_too_early_or_too_late(after: After) -> None:
    layers = start_layers(after)
    place = {name: at for at, layer in enumerate(layers) for name in layer}
    assert sorted(name for layer in layers for name in layer) == sorted(NAMES)
    for name in NAMES:
        assert place[name] == max((place[other] + 1 for other in after[name]), default=0)


@given(stacks(), st.sets(st.sampled_from(NAMES)))
def test_stop_layers_respect_every_path(after: After, names: set[str]) -> None:
    layers = stop_layers(sorted(names), after)
    place = {name: at for at, layer in enumerate(layers) for name in layer}
    assert set(place) == names
    assert sum(map(len, layers)) == len(names)
    for one in names:
        for other in names:
            if reaches(after, one, other):
                assert place[one] < place[other]


@given(stacks(), st.sampled_from(NAMES), st.sampled_from(NAMES))
def test_an_added_link_makes_a_cycle_exactly_when_the_way_back_exists(after: After, one: str, other: str) -> None:
    assert cycle_in(after) is None
    closes = one == other or reaches(after, other, one)
    linked = {**after, one: {**after[one], other: C.READY}}
    found = cycle_in(linked)
    assert (found is not None) == closes
    if found:
        assert found[0] == found[-1]
        assert len(set(found)) == len(found) - 1
        assert all(later in linked[earlier] for earlier, later in pairwise(found))


@given(stacks())
def test_dependents_twice_is_the_same_relation(after: After) -> None:
    links = {(one, other) for one, others in after.items() for other in others}
    assert {(one, other) for other, ones in dependents(after).items() for one in ones} == links


def test_a_stop_that_exits_zero_has_not_completed() -> None:
    state = STATES["stopped with 0"]
    assert state.exit == ExitInfo.from_code(0)
    assert not condition_met(C.COMPLETED, state, True)


def test_a_stack_with_countless_ways_through_it_is_looked_at_once() -> None:
    """2^60 ways lead from the top to the bottom; without a memory of what is done this would not end."""
    after = {f"{side}{rung}": {f"{other}{rung + 1}": C.READY for other in "ab"} for side in "ab" for rung in range(60)}
    assert cycle_in(after) is None
    assert len(start_layers(after)) == 61
