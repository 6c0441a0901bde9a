"""Random stories keep every invariant; a failing one is made small, printed, and told again exactly by its seed.

In `make test` this takes about 20 s of real time. For longer: `DUENDE_SIMULATE_MINUTES=10 pytest tests/simulation`,
from the seed `DUENDE_SIMULATE_SEED` on. One seed again, with its whole history: `python -m tests.simulation SEED`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from . import stories
from .checks import INVARIANTS, KNOWN
from .plan import make_plan
from .planted_bugs import BUGS, Bug
from .play import play, report

pytestmark = pytest.mark.long

SECONDS = 20.0
SEEDS_FOR_A_BUG = 150  # a planted bug must be found within so many


def test_every_invariant_holds_in_random_stories(capsys: pytest.CaptureFixture[str]) -> None:
    seconds = 60.0 * float(os.environ.get("DUENDE_SIMULATE_MINUTES", 0)) or SECONDS
    seed = first = int(os.environ.get("DUENDE_SIMULATE_SEED", 0))
    until = time.monotonic() + seconds
    lives = boundaries = 0
    simulated_s = 0.0
    while time.monotonic() < until:
        told = play(make_plan(seed))
        if told.violation is not None:
            pytest.fail(report(told))
        lives += told.world.lives
        boundaries += told.world.boundaries
        simulated_s += told.world.now_s - 1000.0
        seed += 1
    with capsys.disabled():
        print(
            f"\nsimulated {simulated_s / 86400:.1f} days in {seed - first} stories: {lives} managers, of which "
            f"{lives - (seed - first)} came after another, {boundaries} boundaries"
        )
    assert seed > first + 20, "too slow to prove anything"


def test_a_seed_tells_the_same_story_in_every_process() -> None:
    """Also with other hashes of strings: nothing may hang on the order of a set."""
    seeds = (3, 41, 107, 164)
    here = [play(make_plan(seed)).world.digest() for seed in seeds]
    assert here == [play(make_plan(seed)).world.digest() for seed in seeds]
    code = (
        "from tests.simulation.plan import make_plan\nfrom tests.simulation.play import play\n"
        f"print(*[play(make_plan(seed)).world.digest() for seed in {seeds}])"
    )
    env = {**os.environ, "PYTHONHASHSEED": "1"}
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == here


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name.replace(" ", "-"))
def test_planted_bug_is_found(bug: Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    bug.plant(monkeypatch)
    found = set()
    for plan in [bug.story] if bug.story is not None else map(make_plan, range(SEEDS_FOR_A_BUG)):
        violation = play(plan).violation
        if violation is not None and violation.name in bug.breaks:
            return
        found |= {violation.name} if violation is not None else set()
    pytest.fail(f"{bug.name}: none of {bug.breaks} broke, but {found or 'nothing'}")


def test_the_stories_of_planted_bugs_hold_without_them() -> None:
    for plan in (stories.EXIT_AHEAD, stories.NEWER_THAN_RECORD, stories.OVERTAKEN, stories.RESTART_OVERTAKEN):
        told = play(plan)
        assert told.violation is None, told.history


def test_a_failing_story_becomes_small(monkeypatch: pytest.MonkeyPatch) -> None:
    bug = next(bug for bug in BUGS if bug.name == "what lives without a keeper is not adopted")
    bug.plant(monkeypatch)
    failing = next(told for told in map(play, map(make_plan, range(SEEDS_FOR_A_BUG)))
                   if told.violation is not None and len(told.plan.steps) > 5)  # fmt: skip
    text = report(failing)
    assert text.count("kill") >= 1
    assert f"seed {failing.plan.seed}: one instance" in text
    steps = text.partition("\n\n")[2].partition("\n\n")[0]
    assert len(steps.splitlines()) <= 8, text


def test_every_invariant_is_proved_by_a_planted_bug() -> None:
    """`order` of a stack and the like: an invariant that nothing can break proves nothing."""
    assert {name for bug in BUGS for name in bug.breaks} >= INVARIANTS - {"history complete", "no alarm"}
    assert KNOWN  # when the last is mended, test_known.py goes
