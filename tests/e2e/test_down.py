"""`down` against everything that happens while it runs: it ends with nothing running, or it says that it does not."""

from __future__ import annotations

import os
import signal

from tests.harness import PATIENCE_S, Stack

TWO = """
[daemon.quick]
command = ["sleep", "1000"]
[daemon.slow]
command = ["sh", "-c", "trap 'sleep 1; exit' TERM; while :; do sleep 0.05; done"]
"""


def _stopping(stack: Stack) -> bool:
    return stack.daemon("slow")["status"] == "stopping"


def test_nothing_is_started_while_the_stack_is_stopped(stack: Stack) -> None:
    stack.write(TWO)
    stack.up()
    down = stack.popen("down")
    stack.until(lambda: _stopping(stack), "the stop")
    refused = stack.run("start", "quick")
    assert refused.returncode == 1
    assert "is being stopped" in refused.stderr
    assert stack.run("restart", "quick").returncode == 1
    assert down.wait(PATIENCE_S) == 0
    assert stack.run("status").returncode == 69
    stack.until(lambda: not stack.our_processes(), "the end of everything")


def test_up_during_down_waits_and_starts_anew(stack: Stack) -> None:
    stack.write(TWO)
    stack.up()
    before = stack.status()["manager"]["pid"]
    down = stack.popen("down")
    stack.until(lambda: _stopping(stack), "the stop")
    up = stack.run("up", "-d", "--no-restarter")
    assert up.returncode == 0, up.stdout + up.stderr
    assert down.wait(PATIENCE_S) == 0
    after = stack.status()
    assert after["manager"]["pid"] != before
    assert [one["status"] for one in after["daemons"]] == ["running", "running"]


def test_a_manager_that_is_killed_during_down_has_its_successor_finish_it(stack: Stack) -> None:
    stack.write(TWO)
    assert stack.run("up", "-d").returncode == 0
    manager = stack.status()["manager"]["pid"]
    down = stack.popen("down")
    stack.until(lambda: _stopping(stack), "the stop")
    os.kill(manager, signal.SIGKILL)
    assert down.wait(PATIENCE_S) == 0
    assert stack.run("status").returncode == 69
    stack.until(lambda: not stack.our_processes(), "the end of everything")


def test_two_folders_of_one_name_are_not_one_stack(stack: Stack) -> None:
    stack.write('[daemon.mine]\ncommand = ["sleep", "1000"]\n')
    stack.up()
    other = stack.root / "other" / stack.name
    other.mkdir(parents=True)
    (other / "duende.toml").write_text('[daemon.theirs]\ncommand = ["sleep", "1001"]\n')
    for verb in (["up", "-d"], ["down"], ["status"], ["stop", "mine"]):
        refused = stack.run(*verb, cwd=other)
        assert refused.returncode == 1, verb
        assert "two stacks can't have one name" in refused.stderr
    assert stack.daemon("mine")["status"] == "running"
    assert stack.run("-s", stack.name, "status", cwd=other).returncode == 0
