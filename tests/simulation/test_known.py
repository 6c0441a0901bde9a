"""Defects that the simulation has found. Those in KNOWN of checks.py are not mended yet, and their tests fail.

`strict`: whoever mends one is told, by this file, to take its name out of KNOWN.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from . import checks, stories
from .plan import Plan
from .play import play

pytestmark = pytest.mark.long

CASES = {
    checks.HALF_DOWN: [stories.DOWN_KILLED_BETWEEN],
    checks.STALE_COMPLETION: [stories.ORDER_AFTER_COMPLETION],
    checks.UNSEEN_CONTINUE: [stories.CONTINUED_WITHOUT_KEEPER],
    checks.FORGOTTEN_INSTANCE: [stories.UNRECORDED_START],
    checks.STALE_BOOT: [stories.REBOOTED_UNCONFIGURED],
    checks.OWN_STRAY: stories.EXECUTES_IN_TAKEOVER,
}

CASES_AT_BOUNDARIES = {
    checks.LOST_READY: stories.READY_AND_KILLED,
    checks.FALSE_ALARM: stories.ENDS_AT_ONCE,
}


def _first_violation(plans: Sequence[Plan], *, at_each_boundary: bool = False) -> str:
    for plan in plans:
        count = play(plan).boundaries if at_each_boundary else 0
        for kill_at in range(1, count + 1) if at_each_boundary else (None,):
            told = play(plan, kill_at=kill_at)
            if told.violation is not None:
                return f"{told.violation}\n{plan}\n{told.history}"
    return ""


def _marked(cases: dict[str, Any]) -> list[Any]:
    """The cases, with those that are not mended marked so."""
    mark = pytest.mark.xfail(strict=True, reason="known; see KNOWN in checks.py")
    return [pytest.param(name, marks=[mark] if name in checks.KNOWN else []) for name in cases]


@pytest.mark.parametrize("defect", _marked(CASES))
def test_defect(defect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "KNOWN", checks.KNOWN - {defect})
    found = _first_violation(CASES[defect])
    assert not found, found


@pytest.mark.parametrize("defect", _marked(CASES_AT_BOUNDARIES))
def test_defect_at_a_boundary(defect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "KNOWN", checks.KNOWN - {defect})
    found = _first_violation([CASES_AT_BOUNDARIES[defect]], at_each_boundary=True)
    assert not found, found


def test_a_down_whose_manager_is_killed_in_its_last_moments_is_not_undone() -> None:
    plan = stories.DOWN_KILLED_AT_THE_END
    last = play(plan).boundaries
    for kill_at in range(last - 3, last + 1):
        told = play(plan, kill_at=kill_at)
        assert told.was == [], f"killed at boundary {kill_at}\n{told.history}"
