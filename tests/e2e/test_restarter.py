"""`up -d` brings its own restarter: a manager that dies comes back by itself and finds everything as it was."""

from __future__ import annotations

import os
import signal

from tests.harness import Stack

TWO = """
[daemon.steady]
command = ["sleep", "1000"]
[daemon.short]
command = ["sh", "-c", "read -r line < gate; exit 7"]
restart = { delay = "0s", reset_after = "0s" }
"""


def test_a_killed_manager_comes_back_and_knows_what_happened_meanwhile(stack: Stack) -> None:
    os.mkfifo(stack.folder / "gate")
    stack.write(TWO)
    assert stack.run("up", "-d").returncode == 0
    before = stack.status()
    os.kill(before["manager"]["pid"], signal.SIGSTOP)  # so that it can't see the exit …
    with open(stack.folder / "gate", "w") as gate:
        gate.write("now\n")
    os.kill(before["manager"]["pid"], signal.SIGKILL)  # … and never will

    def after() -> object:
        done = stack.run("status", "--json")
        found = done.json if done.returncode == 0 else None
        return found if found and found["manager"]["pid"] != before["manager"]["pid"] else None

    found = stack.until(after, "the new manager")
    steady, short = found["daemons"]
    assert steady["pid"] == before["daemons"][0]["pid"]
    assert steady["restarts"] == 0
    short = stack.until(lambda: (one := stack.daemon("short"))["restarts"] == 1 and one, "the restart of short")
    assert short["exit"]["code"] == 7
    assert found["manager"]["keeper_pid"] == before["manager"]["keeper_pid"]
    assert stack.run("down").returncode == 0
    stack.until(lambda: not stack.our_processes(), "the end of everything")


def test_down_ends_the_restarter_too_and_a_failed_start_is_told(stack: Stack) -> None:
    stack.write('[daemon.one]\ncommand = ["sleep", "1000"]\n')
    assert stack.run("up", "-d").returncode == 0
    assert stack.run("down").returncode == 0
    stack.until(lambda: not stack.our_processes(), "the end of everything")
    stack.state.joinpath(stack.name, "state.db").write_bytes(b"this is not a database" * 100)
    failed = stack.run("up", "-d")
    assert failed.returncode != 0
    assert "state.db" in failed.stderr
    stack.until(lambda: not stack.our_processes(), "the end of everything")
