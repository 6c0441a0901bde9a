"""Schedules with real processes and a real clock, while managers are killed between and during runs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
from typing import Any

import pytest

from tests.harness import Stack

TICK = """
[daemon.tick]
command = ["sh", "-c", "echo tick >> ticks"]
every = "1s"
"""

# Whatever of an older run is left still holds the lock.
ALONE = """
[daemon.job]
command = ["sh", "-c", "exec 9>>lock; flock -n 9 || echo twice >> twice; echo run >> runs; sleep 1000"]
schedule = { every = "1s", overlap = "replace" }
"""


def stored(stack: Stack, name: str) -> dict[str, Any]:
    """The state of a daemon as the manager has written it down, all of one moment."""
    with contextlib.closing(sqlite3.connect(stack.state / stack.name / "state.db")) as db:
        state: dict[str, Any] = json.loads(db.execute("SELECT state FROM daemon WHERE name = ?", (name,)).fetchone()[0])
    return state


def lines(stack: Stack, file: str) -> int:
    path = stack.folder / file
    return len(path.read_text().splitlines()) if path.exists() else 0


def kill_manager(stack: Stack, pid: int) -> int:
    """SIGKILL, and wait until the restarter has brought the next one."""

    def another() -> int:
        done = stack.run("status", "--json")
        found: int = done.json["manager"]["pid"] if done.returncode == 0 else pid
        return found if found != pid else 0

    os.kill(pid, signal.SIGKILL)
    new: int = stack.until(another, "the next manager")
    return new


def test_runs_go_on_by_the_grid_while_managers_are_killed(stack: Stack) -> None:
    stack.write(TICK)
    assert stack.run("up", "-d").returncode == 0
    begun = stack.until(lambda: (one := stored(stack, "tick"))["slot"] and one, "the begin of counting")
    first_s = begun["slot"][1] - begun["instance"]  # a slow machine may be some runs ahead
    pid = stack.status()["manager"]["pid"]
    for seen in (2, 4, 6):
        stack.until(lambda seen=seen: lines(stack, "ticks") >= seen, f"{seen} runs")
        pid = kill_manager(stack, pid)
    stack.until(lambda: lines(stack, "ticks") >= 8, "8 runs")

    state = stored(stack, "tick")
    slots = state["slot"][1] - first_s
    assert slots == pytest.approx(round(slots), abs=1e-6), "the grid has moved"
    assert 8 <= state["instance"] <= round(slots), "more runs than slots"
    assert stack.run("stop", "tick").returncode == 0
    assert lines(stack, "ticks") == stored(stack, "tick")["instance"], "a run came twice, or not at all"
    assert stored(stack, "tick")["slot"] is None
    assert stack.daemon("tick")["restarts"] == 0
    assert stack.run("down").returncode == 0


def test_there_are_never_two_runs_at_once(stack: Stack) -> None:
    stack.write(ALONE)
    assert stack.run("up", "-d").returncode == 0
    pid = stack.status()["manager"]["pid"]
    for seen in (1, 2, 4):
        stack.until(lambda seen=seen: lines(stack, "runs") >= seen, f"{seen} runs")
        pid = kill_manager(stack, pid)
    stack.until(lambda: lines(stack, "runs") >= 5, "5 runs")
    assert lines(stack, "twice") == 0
    assert stack.run("down").returncode == 0
    assert lines(stack, "twice") == 0


def test_what_the_command_line_tells(stack: Stack) -> None:
    stack.write(
        '[daemon.nightly]\ncommand = ["true"]\nschedule = { cron = "30 3 * * *", timezone = "Asia/Kolkata" }\n'
        '[daemon.web]\ncommand = ["sleep", "1000"]\n'
    )
    up = stack.up()
    assert "runs on its schedule" in up.stdout
    nightly = stack.daemon("nightly")
    assert (nightly["status"], nightly["pid"]) == ("created", None)
    assert 0 < nightly["next_start_s"] <= 86400
    assert "next run in " in nightly["message"]
    assert nightly["message"].endswith("03:30)")
    assert "next run in" in stack.run("status").stdout

    assert stack.run("start", "nightly").returncode == 0
    done = stack.until(lambda: (one := stack.daemon("nightly"))["status"] == "stopped" and one, "its end")
    assert done["message"].startswith("completed: exited with code 0; next run in ")

    assert stack.run("stop", "nightly").returncode == 0
    suspended = stack.daemon("nightly")
    assert suspended["next_start_s"] is None
    assert suspended["message"].startswith("its schedule is suspended until `duende start nightly`")
    stack.up()  # of a stack that is up: what was stopped by hand is left so
    assert stack.daemon("nightly")["wanted"] is False
    assert stack.run("down").returncode == 0
