"""Starts the linters when the tests start, and puts the tests that look at what they said at the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from .checks import ROOT

PATIENCE_S = 300.0  # without a cache and on a busy machine mypy takes its time
_HERE = str(Path(__file__).parent)


class Linters:
    """The process that runs the checks, and the folder that it writes to."""

    def __init__(self, names: list[str]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="duende-checks-")
        command = [sys.executable, "-m", "tests.project.checks", self._folder.name, *names]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, process_group=0)

    def result(self, name: str) -> tuple[int, str]:
        """Exit code and output of one check; all have been run when this returns."""
        code = self._process.wait(PATIENCE_S)
        assert code == 0, f"the linters could not be run: exit code {code}"
        found = json.loads(Path(self._folder.name, f"{name}.json").read_text())
        return found["code"], found["said"]

    def end(self) -> None:
        """End what still runs, which is something only when the tests were interrupted."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
            self._process.wait()
        self._folder.cleanup()


_KEY = pytest.StashKey[Linters]()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests of this folder go last: the linters work meanwhile."""
    items.sort(key=lambda item: str(item.path).startswith(_HERE))


def pytest_collection_finish(session: pytest.Session) -> None:
    functions = [item for item in session.items if isinstance(item, pytest.Function)]
    names = [item.callspec.params["check"] for item in functions if item.originalname == "test_the_tree_is_clean"]
    if names and not session.config.option.collectonly:
        session.config.stash[_KEY] = Linters(names)


def pytest_sessionfinish(session: pytest.Session) -> None:
    linters = session.config.stash.get(_KEY, None)
    if linters is not None:
        linters.end()


@pytest.fixture
def lint(request: pytest.FixtureRequest) -> Callable[[str], tuple[int, str]]:
    """What a check said."""
    return request.config.stash[_KEY].result
