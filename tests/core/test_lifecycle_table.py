"""TABLE is the truth: what is in it can happen, what is not in it does nothing, and a late event never matters."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import get_args

import pytest

from duende.core.effects import Note, NoteKind
from duende.core.events import Event, PolicyChanged, SlotPassed, StartRequested, TimerFired
from duende.core.lifecycle import TABLE, step
from duende.core.policy import LifecyclePolicy
from duende.core.state import DaemonState
from duende.model.restart import RestartConfig, RestartPolicy
from duende.model.status import DaemonStatus

from .reach import events_for, reached

EVENTS: tuple[type, ...] = get_args(Event)
PAIRS = [(status, event) for status in DaemonStatus for event in EVENTS]


def pair_name(value: object) -> str:
    """`running` and `Exited` in a test's name."""
    return value.value if isinstance(value, DaemonStatus) else value.__name__  # type: ignore[attr-defined]


def test_events_for_makes_every_type_of_event() -> None:
    state = next(state for state in reached().states if state.timers)
    assert {type(event) for event in events_for(state)} == set(EVENTS)


def test_every_status_is_reached() -> None:
    assert {state.status for state in reached().states} == set(DaemonStatus)


def test_every_row_is_about_a_known_status_and_event() -> None:
    assert set(TABLE) <= set(PAIRS)


@pytest.mark.parametrize(("status", "event"), PAIRS, ids=pair_name)
def test_pair(status: DaemonStatus, event: type) -> None:
    row = TABLE.get((status, event))
    if row is not None:
        assert reached().moves[status, event] == row.leads_to, "each listed target is reached, and no other"
        return
    tried = 0
    for state in (state for state in reached().states if state.status is status):
        for each in (each for each in events_for(state) if type(each) is event):
            after, effects = step(state, each, now_s=1e6, uniform=0.5)
            tried += 1
            if isinstance(each, SlotPassed):
                assert after in (state, replace(state, slot=each.slot))
                assert effects in ((), (Note(NoteKind.MISSED, each.text),))
                continue
            assert effects == ()
            if isinstance(each, PolicyChanged):
                assert after == replace(state, policy=each.policy)
            else:
                assert after is state
    assert tried or event.__name__ == "TimerFired"


def test_late_events_of_an_older_incarnation_change_nothing() -> None:
    tried = 0
    for state in reached().states:
        for event in events_for(state):
            if hasattr(event, "instance"):
                for offset in (-1, 1):
                    after, effects = step(
                        state, replace(event, instance=event.instance + offset), now_s=1e6, uniform=0.5
                    )
                    assert (after, effects) == (state, ())
                    tried += 1
    assert tried > 1000


def test_unknown_and_superseded_timer_tokens_change_nothing() -> None:
    for state in reached().states:
        live = {timer.token for timer in state.timers}
        for token in set(range(state.next_token + 2)) - live:
            assert step(state, TimerFired(token), now_s=1e6, uniform=0.5) == (state, ())


def test_every_reached_state_survives_json() -> None:
    for state in reached().states:
        text = json.dumps(state.to_json(), allow_nan=False)
        assert DaemonState.from_json(json.loads(text), state.policy) == state


def test_json_has_every_field_but_the_policy() -> None:
    assert set(DaemonState().to_json()) == set(DaemonState.__slots__) - {"policy"}


def test_step_is_a_function_of_its_arguments() -> None:
    for state in reached().states[::10]:
        for event in events_for(state):
            first = step(state, event, now_s=77.0, uniform=0.25)
            assert step(state, event, now_s=77.0, uniform=0.25) == first


def test_policy_change_keeps_status_and_timers() -> None:
    other = LifecyclePolicy(restart=RestartConfig(policy=RestartPolicy.NEVER), shutdown_timeout_s=77.0)
    for state in reached().states:
        after, effects = step(state, PolicyChanged(other), now_s=1e6, uniform=0.5)
        assert after.policy is other
        assert replace(after, policy=state.policy) == state
        assert effects == ()


def test_a_handler_that_leaves_the_table_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    key = (DaemonStatus.CREATED, StartRequested)
    monkeypatch.setitem(TABLE, key, replace(TABLE[key], leads_to=frozenset({DaemonStatus.FAILED})))  # type: ignore[misc,arg-type]
    with pytest.raises(AssertionError, match="not in the table"):
        step(DaemonState(), StartRequested(), now_s=0.0, uniform=0.5)
