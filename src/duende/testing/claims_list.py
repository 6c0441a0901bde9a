"""The texts of the 110 claims, read from claims.toml beside this file, and the page docs/claims.md made from them.

`python -m duende.testing.claims_list` prints the page; a test compares it with the file.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

__all__ = ["CLAIMS_DIRECTORY", "Claim", "claim_tests", "load_claims", "page"]

CLAIMS_DIRECTORY = Path("tests/claims")  # in a checkout; all tests that carry a claim are below it

_LACKING = {"mac": "no macOS", "gpu": "no GPU", "kvm": "no hardware KVM"}
_MARK = re.compile(r'^@pytest\.mark\.claim\("(F\d{3})"\)', re.M)
_PAGE_HEAD = """\
# The claims

<!-- made from src/duende/testing/claims.toml and the marks in tests/claims by `python -m duende.testing.claims_list`;
a test compares -->

Each is a promise that a user can try to break. A claim *holds* only when its one test did the real thing (a real
process, cgroup, file, socket …), tried to break it, and could not. `duende claims` runs the tests in a checkout and
says for each claim:

- `holds`: ran here and was not broken; the measured figure stands beside it
- `broken`: ran here and was refuted, or was skipped though this machine can run it; the exit code is 1
- `not run here`: this machine lacks what it needs; the reason names it. Never counted as holding
- `no test yet`: nothing in this repository shows that it holds

`duende claims F007 F008` or `--only F007,F008` runs some, `--json` is for programs.
"""


@dataclass(frozen=True, slots=True)
class Claim:
    """One promise. `needs` is empty, or names what a machine may lack: `mac`, `gpu`, `kvm`."""

    id: str
    group: str
    claim: str
    attempt: str
    holds: str
    needs: str = ""

    @property
    def lacking(self) -> str:
        """The reason to give where what it needs is not there; empty for claims that any Linux can run."""
        return _LACKING.get(self.needs, "")


def load_claims() -> dict[str, Claim]:
    """All claims by id, in their order."""
    data = tomllib.loads(Path(__file__).with_name("claims.toml").read_text(encoding="utf-8"))
    return {id: Claim(id, **fields) for id, fields in data.items()}


def claim_tests(root: Path) -> dict[str, list[Path]]:
    """Which files below `root`/tests/claims carry each claim, once per mark; found without importing them."""
    found: dict[str, list[Path]] = {}
    for path in sorted((root / CLAIMS_DIRECTORY).rglob("test_*.py")):
        for id in _MARK.findall(path.read_text(encoding="utf-8")):
            found.setdefault(id, []).append(path.relative_to(root))
    return found


def page(claims: Mapping[str, Claim], tests: Mapping[str, list[Path]]) -> str:
    """docs/claims.md."""
    lines = [_PAGE_HEAD.rstrip()]
    for group, members in groupby(claims.values(), key=lambda claim: claim.group):
        lines += ["", f"## {group}", "", "| id | claim | it holds when | test |", "|---|---|---|---|"]
        lines += [_row(claim, tests.get(claim.id, [])) for claim in members]
    return "\n".join(lines) + "\n"


def _row(claim: Claim, paths: list[Path]) -> str:
    needs = f" [{claim.needs}]" if claim.needs else ""
    test = ", ".join(f"[{path.name}](../{path.as_posix()})" for path in paths) or "no test yet"
    holds = claim.holds.replace("|", "\\|")
    return f"| {claim.id}{needs} | {claim.claim} | {holds} | {test} |"


if __name__ == "__main__":
    print(page(load_claims(), claim_tests(Path.cwd())), end="")
