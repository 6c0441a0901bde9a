"""Ladders of signals and commands, reload commands: with real processes, and over a manager's death."""

from __future__ import annotations

import os
import signal

from tests.harness import Stack

# Deaf to the usual signals; `said` tells when its traps are set.
DEAF = "trap '' TERM QUIT; trap 'exit 7' USR1; echo up; while :; do sleep 0.05; done"


def stack_of(stop: str, **more: str) -> str:
    lines = [f"{key} = {value}" for key, value in more.items()]
    return "\n".join(
        ["[daemon.a]", f'command = ["sh", "-c", {DEAF!r}]'.replace("'trap", '"trap').replace("done'", 'done"'),
         f"stop = {stop}", *lines]
    )  # fmt: skip


def up(stack: Stack, toml: str) -> None:
    stack.write(toml)
    stack.up()
    stack.until(lambda: any("up" in line for line in stack.log("a")), "its traps")


def steps(stack: Stack) -> list[str]:
    events = stack.run("events", "a", "--json").stdout.splitlines()
    import json

    return [event["message"] for event in map(json.loads, events) if event["kind"] in ("stop-step", "escalated")]


def test_each_step_comes_after_the_one_before_it_has_failed(stack: Stack) -> None:
    ask = '["sh", "-c", "echo $MAINPID $DUENDE_DAEMON > asked; echo no; exit 3"]'
    up(stack, stack_of(f'[{ask}, "5m", "SIGQUIT", "200ms", "SIGTERM", "200ms", "SIGUSR1", "5m"]'))
    pid = stack.daemon("a")["pid"]
    assert stack.run("stop", "a").returncode == 0
    assert (stack.root / stack.name / "asked").read_text() == f"{pid} a\n"
    assert steps(stack) == [
        "sh exited with 3: no: SIGQUIT",
        "SIGQUIT did not end it within 0.2 s: SIGTERM",
        "SIGTERM did not end it within 0.2 s: SIGUSR1",
    ]
    assert stack.daemon("a")["exit"]["code"] == 7


def test_a_command_that_hangs_has_its_time_and_is_gone_afterwards(stack: Stack) -> None:
    up(stack, stack_of('[["sh", "-c", "sleep 999 & sleep 998"], "300ms"]'))
    assert stack.run("stop", "a").returncode == 0
    (last,) = steps(stack)
    assert last.endswith("did not end it within 0.3 s: SIGKILL")
    assert stack.daemon("a")["exit"]["signal"] == signal.SIGKILL
    assert not [pid for pid in stack.our_processes() if "sleep 99" in _command(pid)]


def test_the_next_manager_goes_on_where_the_killed_one_stood(stack: Stack) -> None:
    up(stack, stack_of('["SIGQUIT", "100ms", "SIGTERM", "5m", "SIGKILL"]'))
    asking = stack.popen("stop", "a")
    stack.until(lambda: len(steps(stack)) == 1, "the second step")
    os.kill(stack.status()["manager"]["pid"], signal.SIGKILL)
    asking.communicate(timeout=30)
    stack.up("--no-wait")
    assert stack.daemon("a")["status"] == "stopping"
    os.kill(stack.daemon("a")["pid"], signal.SIGUSR1)
    assert stack.run("wait", "a", "--for", "stopped").returncode == 0
    assert steps(stack)[0] == "SIGQUIT did not end it within 0.1 s: SIGTERM"
    assert stack.daemon("a")["status"] == "stopped"


def test_a_reload_command_runs_in_place_of_the_signal_and_its_failure_is_told(stack: Stack) -> None:
    command = '["sh", "-c", "test ! -e bad || { echo broken configuration; exit 4; }; echo $MAINPID >> reloads"]'
    up(stack, stack_of('["SIGUSR1"]', reload_command=command))
    pid = stack.daemon("a")["pid"]
    assert stack.run("reload", "a").returncode == 0
    assert (stack.root / stack.name / "reloads").read_text() == f"{pid}\n"
    stack.file("bad", "")
    refused = stack.run("reload", "a")
    assert refused.returncode == 1
    assert "sh exited with 4: broken configuration" in refused.stdout
    assert stack.daemon("a")["pid"] == pid


def _command(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline") as file:
            return file.read().replace("\0", " ")
    except OSError:
        return ""
