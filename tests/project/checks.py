"""Layers, types and style as one process beside the tests: `python -m tests.project.checks FOLDER [NAME …]`.

The checks run one after the other, so that they take one processor and leave the others to the tests. What each one
said goes to a file in FOLDER. mypy has a cache for each platform, in folders that git ignores: in a shared one each run
would throw away what the other knew.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

__all__ = ["CHECKS", "ROOT"]

ROOT = Path(__file__).parents[2]

CHECKS = {
    "layers": ["-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"],
    "style": ["-m", "ruff", "check", "src", "tests", "bench", "tools", "examples"],
    "types": ["-m", "mypy"],
    "types on macOS": [
        "-m",
        "mypy",
        "--cache-dir",
        ".cache/mypy-darwin",
        "--platform",
        "darwin",
        "-p",
        "duende.core",
        "-p",
        "duende.model",
        "-p",
        "duende.config",
    ],
}


def _run(name: str, folder: Path) -> None:
    done = subprocess.run([sys.executable, *CHECKS[name]], cwd=ROOT, capture_output=True, text=True, check=False)
    said = {"code": done.returncode, "said": f"{done.stdout}\n{done.stderr}"}
    (folder / f"{name}.json").write_text(json.dumps(said))


if __name__ == "__main__":
    for check in sys.argv[2:]:
        _run(check, Path(sys.argv[1]))
