"""`duende claims`: run the tests that carry claims, in a checkout, and say of each of the 110 claims how it stands.

The tests run in a pytest of their own (`duende.testing.claims_plugin` reports from there), so a crash of that is a
broken claim and not the end of the report. Where nothing was run, nothing holds: a claim without a test is `no test
yet`, and a skipped test counts as `broken` on a Linux machine where we are root, unless the claim itself says what
machines may lack.
"""

from __future__ import annotations

import argparse
import enum
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from duende.testing.claims_list import CLAIMS_DIRECTORY, Claim, claim_tests, load_claims

__all__ = ["Outcome", "Result", "judge", "main", "run"]

_DETAIL_LINES = 40  # of a broken claim's traceback, on the terminal; --json has more


class Outcome(enum.Enum):
    """The words of docs/claims.md."""

    HOLDS = "holds"
    BROKEN = "broken"
    NOT_RUN_HERE = "not run here"
    NO_TEST_YET = "no test yet"


@dataclass(frozen=True, slots=True)
class Result:
    """How one claim stands."""

    claim: Claim
    outcome: Outcome
    reason: str = ""
    figures: tuple[Mapping[str, Any], ...] = ()
    seconds: float = 0.0
    test: str = ""
    detail: str = ""

    def to_json(self) -> dict[str, Any]:
        """The report's form of it."""
        return {
            "id": self.claim.id, "claim": self.claim.claim, "group": self.claim.group, "outcome": self.outcome.value,
            "reason": self.reason, "figures": list(self.figures), "seconds": self.seconds, "test": self.test,
            "detail": self.detail,
        }  # fmt: skip


def main(argv: list[str]) -> int:
    """Run the tests and print the report; 1 when a claim is broken, 2 for a wrong command or outside a checkout."""
    claims = load_claims()
    options = _parser().parse_args(argv)
    chosen = [id for word in (*options.ids, *options.only) for id in word.upper().split(",") if id]
    if unknown := [id for id in chosen if id not in claims]:
        return _complain(f"claims: no claim {', '.join(unknown)}; they are F001 to F110, see docs/claims.md")
    root = _checkout()
    if root is None:
        return _complain(
            "claims: this is no checkout of duende: the tests of the claims (tests/claims) are not part of the "
            "installed package; clone the repository and run `make claims` there"
        )
    wanted = {id: claim for id, claim in claims.items() if not chosen or id in chosen}
    results = []
    for result in run(root, wanted):
        results.append(result)
        if not options.json:
            print(_row(result), flush=True)
    results.sort(key=lambda result: result.claim.id)
    if options.json:
        counts = {outcome.value: sum(one.outcome is outcome for one in results) for outcome in Outcome}
        print(
            json.dumps({"counts": counts, "claims": [one.to_json() for one in results]}, indent=1, ensure_ascii=False)
        )
    else:
        print(_closing(results))
    return 1 if any(one.outcome is Outcome.BROKEN for one in results) else 0


def run(root: Path, claims: Mapping[str, Claim]) -> Iterator[Result]:
    """Run the tests of `claims` in the checkout `root`; yields each result as its test ends, then the untested ones."""
    marked = claim_tests(root)
    tested = [id for id in claims if id in marked]
    missing = set(tested)
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        for line in _reports(root, tested, output) if tested else ():
            if line["claim"] in missing:
                missing.discard(line["claim"])
                yield judge(claims[line["claim"]], line)
        output.seek(0)
        said = output.read()
    for id in tested:
        if id in missing:
            where = ", ".join(str(path) for path in marked[id])
            yield Result(claims[id], Outcome.BROKEN, "its test gave no result; see the detail", test=where, detail=said)
    for id, claim in claims.items():
        if id not in marked:
            yield Result(claim, Outcome.NO_TEST_YET)


def judge(claim: Claim, line: Mapping[str, Any], *, could_run: bool | None = None) -> Result:
    """From what the plugin reports to the claim's result. `could_run`: whether a skip needs an excuse here."""
    result = Result(
        claim, Outcome.HOLDS, str(line["reason"]), tuple(line["figures"]), float(line["seconds"]), str(line["test"]),
        str(line["detail"]),
    )  # fmt: skip
    if line["outcome"] == "passed":
        return result
    if line["outcome"] == "skipped":
        if could_run is None:
            could_run = sys.platform == "linux" and os.geteuid() == 0
        if could_run and not claim.needs:
            return replace(
                result, outcome=Outcome.BROKEN, reason=f"skipped, though this machine can run it: {result.reason}"
            )
        return replace(result, outcome=Outcome.NOT_RUN_HERE)
    return replace(result, outcome=Outcome.BROKEN)


def _reports(root: Path, ids: Sequence[str], output: IO[str]) -> Iterator[dict[str, Any]]:
    read_end, write_end = os.pipe()
    argv = [
        sys.executable, "-m", "pytest", str(CLAIMS_DIRECTORY), "-p", "duende.testing.claims_plugin",
        "--claims-fd", str(write_end), "--claims-only", ",".join(ids), "--tb=short", "-q",
    ]  # fmt: skip
    source = os.pathsep.join(part for part in (str(root / "src"), os.environ.get("PYTHONPATH", "")) if part)
    with os.fdopen(read_end, "rb") as reports:
        try:
            process = subprocess.Popen(
                argv, cwd=root, env={**os.environ, "PYTHONPATH": source}, pass_fds=(write_end,),
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip
        finally:
            os.close(write_end)
        try:
            for text in reports:
                line = json.loads(text)
                if "end" in line:  # also where something that a test left behind holds the pipe open
                    break
                yield line
        finally:
            process.wait()


def _checkout() -> Path | None:
    """The root of the checkout that this very file is part of, or that we stand in."""
    for folder in (Path(__file__).resolve().parents[3], Path.cwd(), *Path.cwd().parents):
        if (folder / CLAIMS_DIRECTORY).is_dir() and (folder / "src/duende").is_dir():
            return folder
    return None


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="duende claims", description="Run the tests that carry claims, in a checkout, and print which hold.",
        epilog="Exit code: 0, or 1 when a claim is broken.",
    )  # fmt: skip
    made.add_argument("ids", nargs="*", metavar="ID", help="only these claims, as in F007")
    made.add_argument(
        "--only", action="append", default=[], metavar="IDS", help="the same, with commas: F001,F007"
    )
    made.add_argument("--json", action="store_true", help="one JSON document")
    made.add_argument(
        "--no-color", action="store_true", help=argparse.SUPPRESS
    )  # accepted everywhere; there are none here
    return made


def _row(result: Result) -> str:
    figures = ", ".join(_figure(figure) for figure in result.figures)
    told = "; ".join(part for part in (result.reason, figures) if part)
    seconds = f"{result.seconds:6.1f} s" if result.seconds else " " * 8
    return f"{result.claim.id}  {result.outcome.value:<12}  {seconds}  {result.claim.claim}" + (
        f": {told}" if told else ""
    )


def _figure(figure: Mapping[str, Any]) -> str:
    value = figure["value"]
    return (
        f"{figure['name']} {value:.4g} {figure['unit']}".rstrip()
        if abs(value) < 1e4
        else f"{figure['name']} {value:.0f} {figure['unit']}"
    )


def _closing(results: Sequence[Result]) -> str:
    lines = [""]
    for result in results:
        if result.outcome is Outcome.BROKEN and result.detail:
            lines += [f"--- {result.claim.id} {result.claim.claim} ({result.test})"]
            lines += [*result.detail.rstrip().splitlines()[-_DETAIL_LINES:], ""]
    counts = [f"{sum(one.outcome is outcome for one in results)} {outcome.value}" for outcome in Outcome]
    return "\n".join([*lines, ", ".join(counts)])


def _complain(text: str) -> int:
    print(f"duende: {text}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
