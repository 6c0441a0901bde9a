"""What a benchmark hands back, how it is shown, and the command line that all of them share."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["Figure", "Options", "percentile", "run", "table"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One row: `who` was asked `what`, and these are the values. `aim` is what we want of duende, in words."""

    what: str
    who: str
    unit: str
    values: tuple[float, ...] = ()
    aim: str = ""
    skipped: str = ""  # why there are no values

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def p99(self) -> float:
        return percentile(self.values, 0.99)


@dataclass(frozen=True, slots=True)
class Options:
    """How much to measure. `quick` is for a look, `full` for the record; the default ends within a minute."""

    quick: bool = False
    full: bool = False
    peers: bool = True

    def pick(self, quick: int, usual: int, full: int) -> int:
        """The size for this run."""
        return full if self.full else quick if self.quick else usual


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile: a value that was measured, nothing in between."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def table(figures: Sequence[Figure]) -> str:
    """The figures as Markdown, which reads well in a terminal too."""
    head = ["what", "who", "median", "p99", "min", "max", "n", "aim"]
    rows = [_row(figure) for figure in figures]
    widths = [max(len(row[n]) for row in [head, *rows]) for n in range(len(head))]
    lines = [_line(head, widths), "|" + "|".join("-" * (width + 2) for width in widths) + "|"]
    return "\n".join(lines + [_line(row, widths) for row in rows])


def run(question: str, measure: Callable[[Options], list[Figure]]) -> None:
    """The `main` of a benchmark: `--quick`, `--full`, `--no-peers`, and `--json FILE` for bench/run.py."""
    parser = argparse.ArgumentParser(description=question)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="small numbers, for a look")
    size.add_argument("--full", action="store_true", help="large numbers, for the record; takes minutes")
    parser.add_argument("--no-peers", action="store_true", help="duende only")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    given = parser.parse_args()
    start_s = time.monotonic()
    figures = measure(Options(given.quick, given.full, not given.no_peers))
    took_s = time.monotonic() - start_s
    print(question)
    print(table(figures))
    print(f"took {took_s:.0f} s")
    if given.json:
        argv = sys.argv[1:]
        given.json.write_text(
            json.dumps({"question": question, "argv": argv, "figures": [asdict(one) for one in figures]})
        )


def _row(figure: Figure) -> list[str]:
    if not figure.values:
        return [figure.what, figure.who, f"skipped: {figure.skipped}", "", "", "", "", figure.aim]
    median, unit = figure.median, figure.unit
    if len(figure.values) == 1:
        return [figure.what, figure.who, f"{_number(median)} {unit}", "", "", "", "1", figure.aim]
    rest = [_number(value) for value in (figure.p99, min(figure.values), max(figure.values))]
    return [figure.what, figure.who, f"{_number(median)} {unit}", *rest, str(len(figure.values)), figure.aim]


def _number(value: float) -> str:
    """Three significant figures; whole numbers stay whole."""
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"
