"""Layers, types and style are tests like any other (STYLE 35)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

CHECKS = {
    "layers": ["-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"],
    "types": ["-m", "mypy"],
    "types on macOS": [
        "-m",
        "mypy",
        "--platform",
        "darwin",
        "-p",
        "duende.core",
        "-p",
        "duende.model",
        "-p",
        "duende.config",
    ],
    "style": ["-m", "ruff", "check", "src", "tests", "bench", "tools", "examples"],
}


@pytest.mark.parametrize("check", CHECKS)
def test_the_tree_is_clean(check: str) -> None:
    done = subprocess.run([sys.executable, *CHECKS[check]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{check}:\n{done.stdout}\n{done.stderr}"


def test_files_are_small_enough_to_be_read() -> None:
    """A file over 500 lines is a design error (the rule of this project); tables and parsers stay under it too."""
    long = {
        str(path.relative_to(ROOT)): lines
        for path in (ROOT / "src").rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > 500
    }
    assert not long
