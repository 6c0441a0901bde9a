"""Random walks keep every invariant, and every planted bug breaks one."""

from __future__ import annotations

from collections import Counter

import pytest

from duende.core import lifecycle
from duende.core.events import Event
from duende.core.state import DaemonState
from duende.model.status import DaemonStatus

from .invariants import INVARIANTS, Violation
from .planted_bugs import BUGS, Bug
from .walk import Walk

WALKS = 900
WALKS_FOR_A_BUG = 600  # a planted bug must be found within so many


def test_walks_keep_every_invariant_and_go_everywhere_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the second half, a simulation that never does much would prove nothing."""
    been: set[tuple[DaemonStatus, type, DaemonStatus]] = set()
    step = lifecycle.step

    def watched(state: DaemonState, event: Event, **context: float) -> lifecycle.Outcome:
        after, effects = step(state, event, **context)
        been.add((state.status, type(event), after.status))
        return after, effects

    monkeypatch.setattr(lifecycle, "step", watched)
    for seed in range(WALKS):
        Walk(seed).run()
    assert {(status, event, to) for (status, event), row in lifecycle.TABLE.items() for to in row.leads_to} <= been


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name.replace(" ", "-"))
def test_planted_bug_is_found(bug: Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    bug.plant(monkeypatch)
    broken: Counter[str] = Counter()
    for seed in range(WALKS_FOR_A_BUG):
        try:
            Walk(seed).run()
        except Violation as violation:
            broken[violation.name] += 1
        if bug.breaks in broken:
            return
    pytest.fail(f"{WALKS_FOR_A_BUG} walks did not break {bug.breaks!r}; they broke {dict(broken)}")


def test_every_invariant_is_proved_by_a_bug() -> None:
    assert {bug.breaks for bug in BUGS} == INVARIANTS
