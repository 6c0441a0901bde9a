"""What `make demo` runs: it plays to its end, again and again, and an interruption leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

RUN = Path(__file__).parents[2] / "examples" / "demo" / "run.py"
SECONDS_MAX = 15.0  # what the demo promises its reader

pytestmark = pytest.mark.real


def leftovers() -> set[str]:
    """Folders of demos, and processes that live in one."""
    folders = {str(path) for path in Path(tempfile.gettempdir()).glob("duende-demo-*")}
    processes = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                environ = (entry / "environ").read_bytes()
            except OSError:
                continue
            if b"/duende-demo-" in environ:
                processes.add(f"{entry.name} {(entry / 'cmdline').read_bytes()!r}")
    return folders | processes


def test_the_demo_plays_to_its_end_twice() -> None:
    for _ in range(2):
        started_s = time.monotonic()
        done = subprocess.run([sys.executable, str(RUN)], capture_output=True, text=True, timeout=60, check=False)
        took_s = time.monotonic() - started_s
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count("hello from process") >= 3
        for told in ("back as process", "web is still process", "the manager has ended", "Try next:"):
            assert told in done.stdout, done.stdout
        assert took_s < SECONDS_MAX
    assert not leftovers()


@pytest.mark.parametrize(
    ("after", "number"),
    [
        ("$ duende up", signal.SIGINT),  # while the manager comes up
        ("own manager is killed", signal.SIGINT),  # when perhaps only daemons are left
        ("$ duende logs", signal.SIGTERM),
    ],
)
def test_an_interrupted_demo_leaves_nothing_behind(after: str, number: signal.Signals) -> None:
    demo = subprocess.Popen(
        [sys.executable, str(RUN)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
    )
    assert demo.stdout is not None
    with demo.stdout:
        for line in demo.stdout:
            if after in line:
                break
        else:
            pytest.fail(f"the demo never said {after!r}")
        os.killpg(demo.pid, number)  # as a terminal does: the whole process group
        demo.stdout.read()
    assert demo.wait(timeout=30) == (130 if number is signal.SIGINT else 143)
    assert not leftovers()
