"""Run benchmarks, all or by name, and with `--write` put their figures into docs/benchmarks.md.

python bench/run.py [NAME ...] [--quick | --full] [--no-peers] [--write]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / ".cache" / "bench"
PAGE = ROOT / "docs" / "benchmarks.md"
NAMES = (
    "start_class",
    "start_commands",
    "restart_latency",
    "cli_status",
    "idle",
    "memory",
    "logs_whole",
    "floor",
)
MARK = "<!-- below: written by `python bench/run.py --write` -->\n"


def main() -> int:
    """Run what was named; the exit code is 1 when one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all of {', '.join(NAMES)}")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true")
    size.add_argument("--full", action="store_true")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--write", action="store_true", help=f"put the figures into {PAGE.relative_to(ROOT)}")
    options = parser.parse_args()
    if unknown := set(options.names) - set(NAMES):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    RESULTS.mkdir(parents=True, exist_ok=True)
    passed_on = [f"--{flag.replace('_', '-')}" for flag in ("quick", "full", "no_peers") if getattr(options, flag)]
    failed = [name for name in options.names or NAMES if not _run(name, passed_on)]
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    if options.write:
        _write_page()
    return 1 if failed else 0


def _environment() -> dict[str, str]:
    """The checkout first, whether it is installed or not; with byte code, as an installed duende has it."""
    paths = [str(ROOT / "src"), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    dropped = ("PYTHONDONTWRITEBYTECODE", "PYTHONDEVMODE")
    kept = {key: value for key, value in os.environ.items() if key not in dropped}
    return {**kept, "PYTHONPATH": os.pathsep.join(paths)}


def _run(name: str, flags: list[str]) -> bool:
    print(f"\n## {name}", flush=True)
    facts = subprocess.run(
        [sys.executable, "-m", "bench.machine"],
        env=_environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    part = RESULTS / f"{name}.part"
    argv = [sys.executable, "-m", f"bench.{name}", *flags, "--json", str(part)]
    if subprocess.run(argv, env=_environment(), cwd=ROOT, check=False).returncode != 0:
        part.unlink(missing_ok=True)
        return False
    result = {"name": name, "flags": flags, "machine": json.loads(facts.stdout), **json.loads(part.read_text())}
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1))
    part.unlink()
    return True


def _write_page() -> None:
    sys.path[:0] = [str(ROOT), str(ROOT / "src")]
    from bench.figures import Figure, table  # here: the path is set only now

    results: list[dict[str, Any]] = [
        json.loads(path.read_text()) for name in NAMES if (path := RESULTS / f"{name}.json").exists()
    ]
    lines = ["", "## The machine", ""]
    load = "load before (1, 5, 15 min)"
    lines += [f"- {key}: {value}" for key, value in results[-1]["machine"].items() if key != load]
    for result in results:
        figures = [Figure(**{**one, "values": tuple(one["values"])}) for one in result["figures"]]
        command = " ".join(["python bench/run.py", result["name"], *result["flags"]])
        facts = f"`{command}`, {load}: {result['machine'][load]}, {result['machine']['duende']}"
        lines += ["", f"## {result['question']}", "", facts, "", table(figures)]
    head = PAGE.read_text().partition(MARK)[0]
    PAGE.write_text(head + MARK + "\n".join(lines) + "\n")
    print(f"wrote {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    sys.exit(main())
