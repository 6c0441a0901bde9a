"""The whole way once: up, status, kill, back again, down."""

from __future__ import annotations

import os
import signal

from tests.harness import Stack


def test_a_stack_comes_up_is_seen_survives_a_kill_and_goes_down(stack: Stack) -> None:
    stack.write('[daemon.one]\ncommand = ["sleep", "1000"]\nrestart = { delay = "0s" }\n')
    stack.up()
    first = stack.daemon("one")
    assert first["status"] == "running"
    os.kill(first["pid"], signal.SIGKILL)
    again = stack.until(lambda: (one := stack.daemon("one"))["restarts"] == 1 and one["ready"] and one, "the restart")
    assert again["pid"] != first["pid"]
    assert again["exit"] == {**again["exit"], "reason": "signal", "signal": 9, "code": None}
    assert stack.run("down").returncode == 0
    assert not stack.our_processes()


def test_the_manager_may_be_killed_and_nothing_is_lost(stack: Stack) -> None:
    stack.write('[daemon.one]\ncommand = ["sh", "-c", "while read -r _ < /proc/uptime; do echo x; sleep 0.05; done"]\n')
    stack.up()
    before = stack.status()
    os.kill(before["manager"]["pid"], signal.SIGKILL)
    stack.until(lambda: stack.run("status").returncode == 69, "the manager's end")
    stack.up()
    after = stack.status()
    assert after["manager"]["pid"] != before["manager"]["pid"]
    assert after["manager"]["keeper_pid"] == before["manager"]["keeper_pid"]
    assert [one["pid"] for one in after["daemons"]] == [one["pid"] for one in before["daemons"]]
    assert after["daemons"][0]["restarts"] == 0
