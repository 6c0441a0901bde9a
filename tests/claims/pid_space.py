"""Runs as process 1 of a pid namespace with a tiny pid space, for F102: `unshare --pid --fork --mount-proc … -m` this.

A *stranger* is a process that got a number which used to be a daemon's, a manager's or a keeper's. It must stay alive
and must never get a signal, whatever duende is told to do with the daemon. Prints a JSON object of what was done.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from tests.harness import Stack

PID_MAX = 420  # numbers below 300 are given out only once (RESERVED_PIDS, linux/pid.h), so about 120 come round
ROUNDS = 4
FORKS_MAX = 5 * PID_MAX

TOML = """
[daemon.web]
command = ["sleep", "1000"]
pid_file = "web.pid"
restart = { policy = "%s", delay = "0s" }
"""


class Stranger:
    """A child of ours with that very process id, which notes every signal that can be noted."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        read_end, write_end = os.pipe()
        for _ in range(FORKS_MAX):
            ready_r, ready_w = os.pipe()
            child = os.fork()
            if child == 0:
                if os.getpid() != pid:
                    os._exit(0)
                for number in (*range(1, 32), *range(signal.SIGRTMIN, signal.SIGRTMAX + 1)):
                    if number not in (signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD):
                        signal.signal(number, lambda number, _: os.write(write_end, b"%d\n" % number))
                os.write(ready_w, b"x")
                while True:
                    signal.pause()
            os.close(ready_w)
            if child == pid:
                assert os.read(ready_r, 1) == b"x"
                os.close(ready_r)
                os.close(write_end)
                self._signals = read_end
                return
            os.close(ready_r)
            os.waitpid(child, 0)
        raise AssertionError(f"number {pid} did not come round: is it still taken?")

    def is_untouched(self) -> None:
        """Fail if anybody has touched it."""
        assert os.waitpid(self.pid, os.WNOHANG | os.WUNTRACED) == (0, 0), f"stranger {self.pid} was killed or stopped"
        os.set_blocking(self._signals, False)
        try:
            seen = os.read(self._signals, 4096)
        except BlockingIOError:
            return
        raise AssertionError(f"stranger {self.pid} got the signals {seen!r}")

    def end(self) -> None:
        self.is_untouched()
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self._signals)


def comes_round(pid: int) -> bool:
    """Whether that number is given out within two rounds of the whole space."""
    for _ in range(2 * PID_MAX):
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        if child == pid:
            return True
    return False


def kill(*pids: int) -> None:
    """SIGKILL all; they fall to us, process 1, or are our own, and are reaped. Gone, their numbers are free."""
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for pid in pids:
        os.waitpid(pid, 0)


def up(stack: Stack) -> tuple[int, int, int]:
    """The process ids of manager, keeper and daemon, ready."""
    stack.run("up", "-d", "--no-restarter")
    manager = stack.status()["manager"]
    return manager["pid"], manager["keeper_pid"], stack.daemon("web")["pid"]


def all_die_and_are_replaced(stack: Stack) -> int:
    """Manager, keeper and daemon die; strangers get their numbers; the next manager finds them in its state."""
    stack.write(TOML % "always")
    up(stack)
    count = 0
    for _ in range(ROUNDS):
        pids = up(stack)
        kill(*pids)
        strangers = [Stranger(pid) for pid in pids]
        _, keeper, daemon = up(stack)
        assert not {keeper, daemon} & set(pids)
        one = stack.daemon("web")
        assert (one["status"], one["pid"]) == ("running", daemon)
        assert one["exit"]["reason"] != "graceful"
        assert (stack.folder / "web.pid").read_text() == f"{daemon}\n"
        for argv in (("restart", "web"), ("signal", "USR1", "web"), ("stop", "web"), ("start", "web")):
            assert stack.run(*argv).returncode == 0, argv
        for stranger in strangers:
            stranger.end()
        count += len(strangers)
    manager, keeper, _ = up(stack)
    assert stack.run("down").returncode == 0
    os.waitpid(manager, 0)
    return count


def the_daemon_dies_and_is_not_replaced(stack: Stack) -> int:
    """The manager lives and has let go of the number; what is asked of the daemon then must reach nobody."""
    stack.write(TOML % "never")
    manager, _, _ = up(stack)
    for _ in range(ROUNDS):
        stack.run("start", "web")
        pid = stack.daemon("web")["pid"]
        os.kill(pid, signal.SIGKILL)
        stack.until(lambda: stack.daemon("web")["status"] == "failed", "its end")
        stranger = Stranger(pid)
        for argv in (("signal", "KILL", "web"), ("reload", "web"), ("stop", "web")):
            stack.run(*argv)
        stranger.is_untouched()
        assert stack.run("start", "web").returncode == 0
        assert stack.run("stop", "web").returncode == 0
        stranger.end()
    assert stack.run("start", "web").returncode == 0  # so that the next `up` wants it again
    assert stack.run("down").returncode == 0
    os.waitpid(manager, 0)
    return ROUNDS


def the_keeper_holds_the_number(stack: Stack) -> int:
    """Only the manager dies, then the daemon: nobody gets its number until the next manager has heard how it ended."""
    stack.write(TOML % "always")
    for _ in range(ROUNDS):
        manager, _, pid = up(stack)
        kill(manager)
        os.kill(pid, signal.SIGKILL)
        assert not comes_round(pid)
        manager, _, after = up(stack)
        one = stack.daemon("web")
        assert (one["exit"]["reason"], one["exit"]["signal"]) == ("signal", 9)
        assert after != pid
        assert comes_round(pid)
        assert stack.run("down").returncode == 0
        os.waitpid(manager, 0)
    return ROUNDS


def main() -> None:
    Path("/proc/sys/kernel/pid_max").write_text(str(PID_MAX))
    assert os.getpid() == 1
    assert comes_round(PID_MAX - 20)  # the low numbers, which would not come again, are used up
    stack = Stack()
    try:
        done = {
            "strangers in three places": all_die_and_are_replaced(stack),
            "strangers under a living manager": the_daemon_dies_and_is_not_replaced(stack),
            "numbers held": the_keeper_holds_the_number(stack),
        }
    finally:
        stack.close()
    json.dump(done, sys.stdout)


if __name__ == "__main__":
    main()
