"""The public names of `duende`, and that naming them is all that its import does."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import duende
from tests.worker.conftest import SRC

PUBLIC = {
    "BackoffConfig", "ConfigurationError", "Daemon", "DaemonConfig", "DaemonContext", "DaemonError", "DaemonId",
    "DaemonManager", "DaemonMetrics", "DaemonStatus", "DuendeError", "ExitReason", "FailureReason", "HealthCheckConfig",
    "HealthStatus", "LogConfig", "ReadyConfig", "ResourceConfig", "RestartConfig", "RestartPolicy", "Signal", "run",
}  # fmt: skip


def test_the_list_is_pinned():
    assert set(duende.__all__) == PUBLIC
    assert len(duende.__all__) == len(PUBLIC)
    assert set(dir(duende)) == PUBLIC | {"__version__"}


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_each_name_can_be_imported(name):
    assert getattr(duende, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'duende' has no attribute 'nonsense'"):
        _ = duende.nonsense  # type: ignore[attr-defined]


def test_importing_duende_imports_nothing_else():
    code = "import sys; before = set(sys.modules); import duende; print(sorted(set(sys.modules) - before - {'duende'}))"
    out = subprocess.run(
        [sys.executable, "-S", "-c", code], env={"PYTHONPATH": SRC}, capture_output=True, text=True, check=True
    )
    assert out.stdout == "[]\n"


def test_the_version_is_that_of_the_package():
    with open(Path(SRC).parent / "pyproject.toml", "rb") as file:
        assert tomllib.load(file)["project"]["version"] == duende.__version__
