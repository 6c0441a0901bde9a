"""The report of the claims: what counts as holding, and what never does; and the page made from the texts is fresh."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from duende.testing.claims import Outcome, judge
from duende.testing.claims import main as run_claims
from duende.testing.claims_list import claim_tests, load_claims, page

ROOT = Path(__file__).parents[2]


def line(outcome: str, reason: str = "") -> dict[str, object]:
    return {"outcome": outcome, "reason": reason, "figures": [], "seconds": 0.1, "test": "t", "detail": ""}


def test_there_are_110_claims_in_order() -> None:
    assert list(load_claims()) == [f"F{n:03d}" for n in range(1, 111)]


def test_the_page_is_fresh() -> None:
    made = page(load_claims(), claim_tests(ROOT))
    assert (ROOT / "docs/claims.md").read_text() == made, "run: python -m duende.testing.claims_list > docs/claims.md"


def test_no_claim_has_two_tests_and_no_test_an_unknown_claim() -> None:
    tests = claim_tests(ROOT)
    assert {id: paths for id, paths in tests.items() if len(paths) != 1} == {}
    assert set(tests) <= set(load_claims())


@pytest.mark.parametrize(
    ("id", "outcome", "could_run", "expected"),
    [
        ("F001", "passed", True, Outcome.HOLDS),
        ("F001", "failed", True, Outcome.BROKEN),
        ("F001", "skipped", True, Outcome.BROKEN),
        ("F001", "skipped", False, Outcome.NOT_RUN_HERE),
        ("F002", "skipped", True, Outcome.NOT_RUN_HERE),
        ("F002", "failed", True, Outcome.BROKEN),
    ],
)
def test_only_claims_that_need_what_is_not_here_may_be_skipped(id, outcome, could_run, expected) -> None:
    assert judge(load_claims()[id], line(outcome, "why"), could_run=could_run).outcome is expected


CHECKOUT_TESTS = """
import os
import pytest

@pytest.mark.claim("F001")
def test_a(claim_figure):
    claim_figure("median", 1.5, "ms")

@pytest.mark.claim("F006")
def test_b():
    assert 1 == 2

@pytest.mark.claim("F002")
def test_c():
    pytest.skip("no macOS")

@pytest.mark.claim("F007")
@pytest.mark.parametrize("n", [1, 2])
def test_d(n):
    pass

@pytest.mark.claim("F008")
@pytest.mark.xfail
def test_e():
    assert 0

@pytest.fixture
def left():
    yield
    raise OSError("left something")

@pytest.mark.claim("F009")
def test_f(left):
    pass

@pytest.mark.claim("F010")
def test_g():
    os._exit(3)
"""


def test_a_whole_run_is_reported_honestly(tmp_path: Path) -> None:
    """In a checkout of its own: each way that a test may end, up to one that takes pytest down with it."""
    folder = tmp_path / "tests/claims"
    folder.mkdir(parents=True)
    (tmp_path / "src").mkdir()
    os.symlink(ROOT / "src/duende", tmp_path / "src/duende")
    (folder / "test_x.py").write_text(CHECKOUT_TESTS)
    (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\nmarkers = ["claim(id): x"]\n')
    code = (
        "import duende.testing.claims as claims, pathlib, sys\n"
        "claims._checkout = lambda: pathlib.Path.cwd()\n"
        "sys.exit(claims.main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--json"], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    report = {one["id"]: one for one in json.loads(done.stdout)["claims"]}
    assert len(report) == 110
    outcomes = {id: one["outcome"] for id, one in report.items() if one["outcome"] != "no test yet"}
    assert outcomes == {
        "F001": "holds", "F002": "not run here", "F006": "broken", "F007": "broken", "F008": "broken", "F009": "broken",
        "F010": "broken",
    }  # fmt: skip
    assert report["F001"]["figures"] == [{"name": "median", "value": 1.5, "unit": "ms"}]
    assert "assert 1 == 2" in report["F006"]["reason"]
    assert "2 tests carry this claim" in report["F007"]["reason"]
    assert "left something" in report["F009"]["reason"]
    assert "gave no result" in report["F010"]["reason"]


def test_an_unknown_claim_and_a_place_without_tests_are_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_claims(["--only", "F001,F999"]) == 2
    assert "F999" in capsys.readouterr().err
    monkeypatch.setattr("duende.testing.claims._checkout", lambda: None)
    assert run_claims([]) == 2
    assert "no checkout" in capsys.readouterr().err
