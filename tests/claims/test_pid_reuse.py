"""F102: process ids that come round."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.real
@pytest.mark.claim("F102")
def test_process_ids_that_come_round(claim_figure) -> None:
    """In a pid namespace of its own with 420 numbers (Linux 6.14: pid_max is the namespace's); see pid_space.py."""
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("needs unshare(1) (python tools/provision.py installs it)")
    pid_max = Path("/proc/sys/kernel/pid_max")
    before = pid_max.read_text()
    probe = subprocess.run(
        [unshare, "--pid", "--fork", "--mount-proc", "sh", "-c", "echo 420 > /proc/sys/kernel/pid_max"],
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    if pid_max.read_text() != before:
        pid_max.write_text(before)
        pytest.skip("needs a smaller pid_max: a pid namespace has no pid_max of its own before Linux 6.14")
    if probe.returncode:
        pytest.skip(f"needs a pid namespace of its own: {probe.stderr.strip()}")
    done = subprocess.run(
        [unshare, "--pid", "--fork", "--mount-proc", "--kill-child", sys.executable, "-m", "tests.claims.pid_space"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert pid_max.read_text() == before
    assert done.returncode == 0, done.stderr[-4000:]
    for name, count in json.loads(done.stdout).items():
        claim_figure(name, count, "")
        assert count > 0
