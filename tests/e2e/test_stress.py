"""A hundred daemons, some crashing, and a manager that is killed ten times at random moments."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter
from pathlib import Path

from tests.harness import Stack

DAEMONS = 100
KILLS = 10


def _config() -> str:
    lines = ["[stack]\nname = \"STACK\"\n"]
    for n in range(DAEMONS):
        if n % 10 == 3:  # crashes again and again
            command = '["sh", "-c", "sleep 0.$(( $$ % 7 )); exit 1"]'
            rest = 'restart = { delay = "50ms", max_delay = "200ms", crash_limit = 0 }'
        elif n % 10 == 5:  # a tree, that ignores the stop signal of its children
            left = "(env -u DUENDE_INSTANCE_ID setsid sleep 1000 &)"
            command = f'["sh", "-c", "(trap : TERM; while :; do sleep 1; done) & {left}; wait"]'
            rest = 'restart = { delay = "0s" }'
        else:
            command, rest = '["sleep", "1000"]', 'restart = { delay = "0s" }'
        lines.append(f"[daemon.d{n}]\ncommand = {command}\nshutdown_timeout = \"2s\"\n{rest}\n")
    return "\n".join(lines)


class Census(threading.Thread):
    """Looks through /proc all the time: which incarnations of a daemon have living leaders at the same moment?"""

    def __init__(self, needle: bytes) -> None:
        super().__init__(name="census")
        self.needle = needle
        self.done = threading.Event()
        self.twice: set[str] = set()
        self.looks = 0

    def run(self) -> None:
        while not self.done.wait(0.05):
            self.looks += 1
            first = leaders(self.needle)
            doubled = [name for name, pids in first.items() if len(pids) > 1]
            if doubled:  # one that was just ending is no second one: both must be there still
                again = leaders(self.needle)
                self.twice.update(
                    f"{name}: {first[name] & again.get(name, set())}" for name in doubled
                    if len(first[name] & again.get(name, set())) > 1
                )  # fmt: skip


def leaders(needle: bytes) -> dict[str, set[tuple[int, str]]]:
    """daemon -> {(pid, instance)} of the session leaders that are alive and bear the marker of this stack."""
    found: dict[str, set[tuple[int, str]]] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with contextlib.suppress(OSError):
            environ = Path(f"/proc/{entry}/environ").read_bytes()
            if needle not in environ:
                continue
            fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            words = dict(word.split("=", 1) for word in environ.decode(errors="replace").split("\0") if "=" in word)
            is_leader = fields[3] == entry and "DUENDE_INSTANCE_ID" in words  # the session's, so the instance's
            if is_leader and fields[0] not in "ZX":
                found.setdefault(words["DUENDE_DAEMON"], set()).add((int(entry), words["DUENDE_INSTANCE_ID"]))
    return found


def test_no_daemon_runs_twice_and_none_is_lost_however_the_manager_dies(stack: Stack) -> None:
    stack.write(_config().replace("STACK", stack.name))
    stack.env["TEST_STACK"] = str(stack.root)  # what begins with DUENDE_ is not handed down
    needle = os.fsencode(f"TEST_STACK={stack.root}")
    chance = random.Random(20261121)
    census = Census(needle)
    census.start()
    try:
        for kill in range(KILLS):
            starting = stack.popen("up", "-d", "--timeout", "20s")
            time.sleep(chance.uniform(0.1, 1.2))  # the random moment; nothing is waited for
            if kill % 3 == 2:
                asking = stack.popen(*chance.choice([("stop", "d1*"), ("restart", "d2*"), ("down",)]))
                time.sleep(chance.uniform(0.0, 0.3))
            stack.until(lambda: _kill_manager(stack), "a manager to kill")
            starting.communicate(timeout=30)
            if kill % 3 == 2:
                asking.communicate(timeout=60)
        assert stack.run("up", "-d", "--timeout", "30s", timeout_s=60).returncode in (0, 1)  # 1: some crash by design
        assert stack.run("start", "d1*", "--timeout", "20s", timeout_s=60).returncode in (0, 1)
        steady = [f"d{n}" for n in range(DAEMONS) if n % 10 != 3]
        stack.until(lambda: _all_run(stack, steady), "all that can run, running")
        now = leaders(needle)
        assert {name for name in steady if len({id for _, id in now.get(name, ())}) != 1} == set()
    finally:
        census.done.set()
        census.join()
    assert census.looks > 20
    assert not census.twice, census.twice
    done = stack.run("down", timeout_s=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert leaders(needle) == {}
    lock = stack.runtime / stack.name / "manager.lock"
    last = lock.read_text()
    # A restarter may still be in its pause; it finds that another manager has had the stack, and brings nothing back.
    stack.until(lambda: not stack.our_processes(), "the end of everything", patience_s=45.0)
    assert lock.read_text() == last


def _kill_manager(stack: Stack) -> bool:
    """SIGKILL to the manager that the lock file names, if that is one (the file outlives its writer)."""
    try:
        pid = int((stack.runtime / stack.name / "manager.lock").read_text())
        if b"background_main" not in Path(f"/proc/{pid}/cmdline").read_bytes():
            return False
        os.kill(pid, signal.SIGKILL)
    except (OSError, ValueError):
        return False
    return True


def _all_run(stack: Stack, names: list[str]) -> bool:
    status = Counter(
        one["status"] for one in stack.status()["daemons"] if one["name"] in names
    )
    return status == {"running": len(names)}
