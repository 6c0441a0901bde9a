"""Who brings the manager back, how often, and when no more; with a script in the manager's place."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.keeper.conftest import KEEPER, until

pytestmark = pytest.mark.real

# Takes the lock as a manager does, says it is ready, then ends as the file `ends` says: a code, or `wait`.
MANAGER = """
import os, sys, time
folder, fd = sys.argv[1], int(sys.argv[2])
starts = os.path.join(folder, "starts")
with open(starts, "a") as file: file.write(f"{os.getpid()}\\n")
end = open(os.path.join(folder, "ends")).read()
if end == "refuse":
    os.write(fd, b"cannot manage: planted"); sys.exit(1)
with open(os.path.join(folder, "lock"), "w") as file: file.write(f"{os.getpid()}\\n")
if fd >= 0: os.write(fd, b"ready\\n"); os.close(fd)
if end == "wait": time.sleep(1000)
sys.exit(int(end))
"""


class Bench:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.read_end = -1
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, end: str) -> subprocess.Popen[bytes]:
        self.end(end)
        self.read_end, theirs = os.pipe()
        held = os.open(self.folder / "held", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(held, fcntl.LOCK_SH)
        argv = [sys.executable, "-S", "-c", MANAGER, str(self.folder)]
        task = {"argv": argv, "ready_fd": theirs, "lock": str(self.folder / "lock"), "held_fd": held}
        command = [sys.executable, "-I", "-S", str(KEEPER.with_name("restarter.py")), json.dumps(task)]
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(command, pass_fds=(theirs, held), stderr=log)
        os.close(theirs)
        os.close(held)
        return self.process

    def end(self, how: str) -> None:
        (self.folder / "ends").write_text(how)

    def told(self) -> bytes:
        with os.fdopen(self.read_end, "rb") as pipe:
            self.read_end = -1
            return pipe.read()

    def managers(self) -> list[int]:
        path = self.folder / "starts"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def close(self) -> None:
        if self.read_end >= 0:
            os.close(self.read_end)
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        for pid in self.managers()[-1:]:
            if Path(f"/proc/{pid}").exists() and str(self.folder).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


def test_a_killed_manager_comes_back_at_once(bench: Bench) -> None:
    restarter = bench.start("wait")
    assert bench.told() == b"ready\n"
    os.kill(bench.managers()[0], signal.SIGKILL)
    until(lambda: len(bench.managers()) == 2, "the next manager")
    assert restarter.poll() is None
    assert b"the manager ended with -9; starting it again in 0 s" in (bench.folder / "log").read_bytes()


@pytest.mark.parametrize("code", [0, 75])
def test_an_end_for_good_is_final(bench: Bench, code: int) -> None:
    assert bench.start(str(code)).wait(10) == code
    assert len(bench.managers()) == 1


def test_a_manager_that_cannot_even_start_is_told_and_final(bench: Bench) -> None:
    restarter = bench.start("refuse")
    assert bench.told() == b"cannot manage: planted"
    assert restarter.wait(10) == 1
    assert len(bench.managers()) == 1


def test_it_does_not_bring_back_what_another_manager_has_had_meanwhile(bench: Bench) -> None:
    """As after `up` by hand and then `down`: the stack must stay down."""
    restarter = bench.start("1")
    until(lambda: b"starting it again in 0.5 s" in (bench.folder / "log").read_bytes(), "a failure, so that it waits")
    (bench.folder / "lock").write_text(f"{os.getpid()}\n")
    assert restarter.wait(10) == 75
    assert len(bench.managers()) == 3
    assert b"another manager has had the stack meanwhile" in (bench.folder / "log").read_bytes()


def test_sigterm_reaches_the_manager_and_ends_the_waiting(bench: Bench) -> None:
    restarter = bench.start("wait")
    assert bench.told() == b"ready\n"
    restarter.terminate()
    restarter.wait(10)
    assert len(bench.managers()) == 1
    assert not Path(f"/proc/{bench.managers()[0]}").exists()
