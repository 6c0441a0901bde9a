"""The manager is dead, unreachable or being replaced: what the command line tells, and what a user can do."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness import PATIENCE_S, Stack

TWO = """
[daemon.plain]
command = ["sleep", "1000"]
[daemon.picky]
command = ["sh", "-c", "trap 'echo told by HUP; exit 0' HUP; trap '' TERM; echo up; while :; do sleep 0.05; done"]
stop_signal = "SIGHUP"
shutdown_timeout = "20s"
"""
COUNTING = """
[daemon.counter]
command = ["sh", "-c", "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo $i; sleep 0.001; done; exec sleep 1000"]
log = { max_size = "8KiB", keep = 1000 }
"""


def kill_manager(stack: Stack) -> int:
    """SIGKILL, and wait until the kernel has done it."""
    pid: int = stack.status()["manager"]["pid"]
    os.kill(pid, signal.SIGKILL)
    stack.until(lambda: _is_dead(pid), "the manager's death")
    return pid


def _is_dead(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_status_tells_which_daemons_live_without_a_manager(stack: Stack) -> None:
    stack.write(TWO)
    stack.up()
    before = {one["name"]: one for one in stack.status()["daemons"]}
    kill_manager(stack)
    told = stack.run("status")
    assert told.returncode == 69
    assert "2 daemons are still alive and nothing supervises them now" in told.stderr
    assert "`duende up -d` takes them over, `duende down` ends them" in told.stderr
    assert told.stdout.count("running, unsupervised") == 2
    assert str(before["plain"]["pid"]) in told.stdout

    os.kill(before["plain"]["pid"], signal.SIGKILL)
    stack.until(lambda: _is_dead(before["plain"]["pid"]), "the daemon's death")
    left = stack.run("status", "--json")
    assert left.returncode == 69
    assert (left.json["stack"], left.json["manager"]) == (stack.name, None)
    plain, picky = sorted(left.json["daemons"], key=lambda one: one["name"], reverse=True)
    assert (plain["alive"], plain["pid"], plain["status"]) == (False, None, None)
    assert "no manager has told how" in plain["message"]
    assert (picky["alive"], picky["pid"], picky["status"]) == (True, before["picky"]["pid"], "running")
    assert set(picky) == {*before["picky"], "alive"}, "the same keys as with a manager, for programs"
    assert [one["name"] for one in stack.run("status", "--json", "pick*").json["daemons"]] == ["picky"]
    assert "1 daemon is still alive and nothing supervises it now" in stack.run("ps").stderr
    stack.run("up", "-d", "--no-restarter")  # it tells that plain was killed
    assert stack.daemon("picky")["pid"] == before["picky"]["pid"]


def test_a_process_that_has_a_dead_daemons_number_is_not_taken_for_it(stack: Stack) -> None:
    import sqlite3

    stack.write('[daemon.one]\ncommand = ["sleep", "1000"]\n')
    stack.up()
    kill_manager(stack)
    database = sqlite3.connect(stack.state / stack.name / "state.db")
    state = json.loads(database.execute("SELECT handle FROM daemon").fetchone()[0])
    state["data"]["start_ticks"] += 1
    database.execute("UPDATE daemon SET handle = ?", (json.dumps(state),))
    database.commit()
    database.close()
    done = stack.run("status")
    assert (done.returncode, done.stdout) == (69, "")
    assert "start it with `duende up`" in done.stderr


@pytest.mark.parametrize("by", ["file", "name"])
def test_down_without_a_manager_stops_all_by_their_own_ladders(stack: Stack, by: str) -> None:
    stack.write(TWO)
    stack.up()
    kill_manager(stack)
    stack.file("duende.toml", TWO + '[daemon.newer]\ncommand = ["touch", "started"]\n')  # must not be started now
    refused = stack.run("down", "--leave-daemons")
    assert refused.returncode == 69
    done = stack.run("down") if by == "file" else stack.run("-s", stack.name, "down", cwd=Path("/"))
    assert done.returncode == 0, done.stderr
    assert "starting a manager to end it" in done.stdout
    assert done.stdout.endswith("the manager has ended\n")
    stack.until(lambda: not stack.our_processes(), "the end of everything")
    assert "told by HUP" in (stack.state / stack.name / "log" / "picky.log").read_text()
    assert not (stack.folder / "started").exists()
    assert stack.run("down").returncode == 69
    stack.up()  # what is wanted stays wanted
    assert {one["name"]: one["status"] for one in stack.status()["daemons"]}["picky"] == "running"


def test_down_without_a_manager_and_with_a_broken_file_says_so_and_ends_nothing(stack: Stack) -> None:
    stack.write(TWO)
    stack.up()
    kill_manager(stack)
    stack.write("[daemon.plain]\ncomand = 1\n[stack]\n" + f'name = "{stack.name}"\n')
    done = stack.run("down")
    assert done.returncode == 2
    assert "daemon.plain.comand: unknown key" in done.stderr
    assert "2 daemons are still alive" in stack.run("status").stderr
    stack.write(TWO)
    assert stack.run("down").returncode == 0


def test_down_also_ends_a_keeper_that_only_holds_how_its_daemons_ended(stack: Stack) -> None:
    stack.write('[daemon.one]\ncommand = ["sleep", "1000"]\n')
    stack.up()
    daemon = stack.daemon("one")["pid"]
    kill_manager(stack)
    os.kill(daemon, signal.SIGKILL)
    stack.until(lambda: _is_dead(daemon), "the daemon's death")
    assert "start it with `duende up`" in stack.run("status").stderr
    done = stack.run("down")
    assert done.returncode == 0, done.stderr
    stack.until(lambda: not stack.our_processes(), "the end of everything")


def test_a_wait_goes_on_with_the_next_manager(stack: Stack) -> None:
    stack.write('[daemon.one]\ncommand = ["sleep", "1000"]\n')
    assert stack.run("up", "-d").returncode == 0
    waiting = stack.popen("wait", "one", "--for", "stopped")
    bound = str(stack.runtime / stack.name / ".new")  # where the socket was made; an accepted one has the same name
    stack.until(lambda: Path("/proc/net/unix").read_text().count(bound) > 1, "the waiting connection")
    kill_manager(stack)
    assert stack.run("stop", "one").returncode == 0
    assert waiting.wait(PATIENCE_S) == 0


def test_verbs_wait_for_the_manager_that_the_restarter_brings(stack: Stack) -> None:
    stack.write(TWO)
    assert stack.run("up", "-d").returncode == 0
    for verb in (["status"], ["restart", "plain"], ["up", "-d"]):  # the restarter waits longer each time
        before = kill_manager(stack)
        done = stack.run(*verb)
        assert done.returncode == 0, (verb, done.stderr)
        assert stack.status()["manager"]["pid"] != before
    assert stack.daemon("plain")["restarts"] == 0, "the one by hand is not counted"
    assert stack.run("down").returncode == 0
    stack.until(lambda: not stack.our_processes(), "the end of everything, the restarter too")
    assert stack.run("status").returncode == 69


def _numbers_of(stack: Stack, act: Callable[[], None]) -> None:
    """Follow the counter while `act` happens to its manager: every number once, in order."""
    follower = stack.popen("logs", "-f", "-n", "100000", "--no-prefix", stderr=None)
    assert follower.stdout is not None
    watchdog = threading.Timer(PATIENCE_S, follower.kill)
    watchdog.start()
    numbers = [int(follower.stdout.readline()) for _ in range(500)]
    act()
    numbers += [int(follower.stdout.readline()) for _ in range(2500)]
    watchdog.cancel()
    assert numbers == list(range(1, 3001))


def test_followed_logs_go_on_with_the_next_manager(stack: Stack) -> None:
    stack.write(COUNTING)
    assert stack.run("up", "-d").returncode == 0
    _numbers_of(stack, lambda: (kill_manager(stack), None)[1])


def test_followed_logs_go_on_over_a_takeover_by_hand(stack: Stack) -> None:
    stack.write(COUNTING)
    assert stack.run("up", "-d").returncode == 0

    def replace() -> None:
        assert stack.run("down", "--leave-daemons").returncode == 0
        assert stack.run("up", "-d").returncode == 0

    _numbers_of(stack, replace)


def test_followed_events_go_on_with_the_next_manager_and_end_without_one(stack: Stack) -> None:
    stack.write(TWO)
    assert stack.run("up", "-d").returncode == 0
    follower = stack.popen("--json", "events", "-f", "plain", stderr=None)
    assert follower.stdout is not None
    watchdog = threading.Timer(PATIENCE_S, follower.kill)
    watchdog.start()
    seen = [json.loads(follower.stdout.readline()) for _ in range(2)]
    assert [event["status"] for event in seen] == ["starting", "running"]
    kill_manager(stack)
    assert stack.run("stop", "plain").returncode == 0
    seen += [json.loads(follower.stdout.readline()) for _ in range(2)]
    assert [event["status"] for event in seen[2:]] == ["stopping", "stopped"]
    assert stack.run("down").returncode == 0
    rest = [json.loads(line) for line in follower.stdout]
    assert follower.wait() == 69
    watchdog.cancel()
    numbers = [event["seq"] for event in (*seen, *rest)]
    assert numbers == sorted(set(numbers))


def test_a_manager_whose_runtime_directory_was_removed_is_found_and_comes_back(stack: Stack) -> None:
    stack.write(TWO)
    assert stack.run("up", "-d").returncode == 0
    before = stack.status()
    pid = before["manager"]["pid"]
    shutil.rmtree(stack.runtime)
    for verb in (["up", "-d"], ["status"]):
        done = stack.run(*verb)
        assert done.returncode == 69, done.stdout + done.stderr
        assert f"(pid {pid}) runs but does not listen" in done.stderr
        assert f"`kill -HUP {pid}` makes it again" in done.stderr
        assert f"`kill {pid}` stops it and its daemons in order" in done.stderr
    assert "unsupervised" not in done.stdout
    os.kill(pid, signal.SIGHUP)
    stack.until((stack.runtime / stack.name / "duende.sock").exists, "the socket")
    after = stack.status()
    assert [one["pid"] for one in after["daemons"]] == [one["pid"] for one in before["daemons"]]
    assert after["manager"]["pid"] == pid
    assert stack.run("down").returncode == 0
    stack.until(lambda: not stack.our_processes(), "the end of everything")


def test_the_other_way_out_of_a_removed_runtime_directory(stack: Stack) -> None:
    stack.write(TWO)
    assert stack.run("up", "-d").returncode == 0
    pid = stack.status()["manager"]["pid"]
    shutil.rmtree(stack.runtime)
    os.kill(pid, signal.SIGTERM)
    stack.until(lambda: not stack.our_processes(), "the end of everything")
