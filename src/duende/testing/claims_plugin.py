"""The pytest side of `duende claims`: the marker `claim`, the fixture `claim_figure`, a report of how each claim ended.

Loaded with `-p duende.testing.claims_plugin`. With `--claims-fd N` one JSON line per claim is written to that file
descriptor as soon as its test has ended, and a last line `{"end": true}`; with `--claims-only F001,F007` other tests
are left out.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

__all__ = ["claim_figure"]

Figure = Callable[[str, float, str], None]

_PROPERTY = "claim-figure"
_DETAIL_MAX_CHARS = 20_000


@pytest.fixture
def claim_figure(record_property: Callable[[str, object], None]) -> Figure:
    """Record what was measured: `claim_figure("p99 startup", 12.3, "ms")`, as often as there are figures."""

    def record(name: str, value: float, unit: str) -> None:
        record_property(_PROPERTY, {"name": name, "value": value, "unit": unit})

    return record


def pytest_addoption(parser: pytest.Parser) -> None:
    """The two options of the module's docstring."""
    group = parser.getgroup("claims", "duende's claims")
    group.addoption("--claims-fd", type=int, metavar="FD", help="write one JSON line per claim to this descriptor")
    group.addoption("--claims-only", default="", metavar="IDS", help="run only the tests of these claims")


def pytest_configure(config: pytest.Config) -> None:
    """Take the descriptor away from the processes that tests start, so that its end is ours."""
    config.addinivalue_line("markers", "claim(id): this test carries the named claim of docs/claims.md")
    fd = config.getoption("--claims-fd")
    if fd is not None:
        os.set_inheritable(fd, False)
        config.pluginmanager.register(_Reporter(fd))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what was not asked for."""
    only = {id for id in config.getoption("--claims-only").split(",") if id}
    if only:
        chosen = [item for item in items if only & set(_ids(item))]
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = chosen


def _ids(item: pytest.Item) -> list[str]:
    return [str(mark.args[0]) for mark in item.iter_markers("claim")]


class _Reporter:
    """Writes a line per claim. Setup, call and teardown count: a test that leaves something behind has failed."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._carriers: Counter[str] = Counter()
        self._phases: list[pytest.TestReport] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._carriers = Counter(id for item in session.items for id in _ids(item))

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._phases = []
        yield
        for id in _ids(item):
            line = _judge(self._phases)
            if self._carriers[id] > 1:
                line |= {
                    "outcome": "failed",
                    "reason": f"{self._carriers[id]} tests carry this claim; there must be one",
                }
            self._write({"claim": id, "test": item.nodeid, **line})

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._phases.append(report)

    def pytest_unconfigure(self) -> None:
        self._write({"end": True})

    def _write(self, line: dict[str, Any]) -> None:
        data = json.dumps(line).encode() + b"\n"
        while data:
            data = data[os.write(self._fd, data) :]


def _judge(phases: list[pytest.TestReport]) -> dict[str, Any]:
    figures = [value for phase in phases[-1:] for name, value in phase.user_properties if name == _PROPERTY]
    line = {
        "seconds": round(sum(phase.duration for phase in phases), 3),
        "figures": figures,
        "reason": "",
        "detail": "",
    }
    for phase in phases:
        expected = hasattr(phase, "wasxfail")  # neither an expected failure nor an unexpected success is a kept promise
        if phase.failed or expected:
            text = phase.longreprtext
            last = next((words for words in reversed(text.splitlines()) if words.startswith("E  ")), text[-200:])
            reason = "is marked as expected to fail" if expected else _first_error(text) or last.strip()
            return {**line, "outcome": "failed", "reason": reason, "detail": text[-_DETAIL_MAX_CHARS:]}
        if phase.skipped:
            where = phase.longrepr
            reason = str(where[2]).removeprefix("Skipped: ") if isinstance(where, tuple) else phase.longreprtext
            return {**line, "outcome": "skipped", "reason": reason}
    return {**line, "outcome": "passed"}


def _first_error(text: str) -> str:
    """pytest's own one-line summary of a failure: the first line that begins with `E`."""
    return next((line[1:].strip() for line in text.splitlines() if line.startswith("E  ")), "")
