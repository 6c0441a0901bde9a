"""sd_notify(3) as the keeper takes it: at once, for the right instance, also while there is no manager."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from duende.system import notify
from tests.keeper.conftest import KeeperProcess, Peer, until

pytestmark = pytest.mark.real

SAY = """
import os, socket, sys, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
for text in sys.argv[1:]:
    s.sendto(text.encode(), os.environ["NOTIFY_SOCKET"])
"""


def speaker(keeper: KeeperProcess, then: str = "time.sleep(1000)") -> tuple[list[str], dict[str, Any]]:
    env = {"PATH": os.environ["PATH"], "NOTIFY_SOCKET": str(keeper.notify_path), "DUENDE_INSTANCE_ID": "id.1"}
    return [sys.executable, "-I", "-S", "-c", SAY + then], env


def notices(peer: Peer, key: str | None) -> dict[str, str]:
    """All that was told of one, until what it said last."""
    found: dict[str, str] = {}
    while found.get("STATUS") != "last":
        event = peer.wait(lambda message: message.get("ev") == "notify" and message.get("id") == key)
        found.update(event["notices"])
    return found


def test_what_a_daemon_says_is_told_to_the_manager_and_to_each_that_comes_after_it(keeper: KeeperProcess) -> None:
    first = keeper.hello()
    argv, env = speaker(keeper, "input(); s.sendto(b'READY=1\\nSTATUS=last\\nX_OWN=1', os.environ['NOTIFY_SOCKET']); "
                                "time.sleep(1000)")  # fmt: skip
    said = first.spawn("a", "sh", "-c", 'mkfifo $0.in; exec "$@" < $0.in', f"{keeper.path}", *argv, env=env)
    assert said["notices"] == {}
    with open(f"{keeper.path}.in", "w") as line:
        line.write("\n")
    assert notices(first, "a") == {"READY": "1", "STATUS": "last"}
    second = keeper.connect()
    second.ask("hello", v=2)
    assert second.event("instance", "a")["notices"] == {"READY": "1", "STATUS": "last"}


def test_nobody_waits_because_there_is_no_manager(keeper: KeeperProcess) -> None:
    """The queue of the socket takes some ten messages; a daemon that says more must not stand still."""
    peer = keeper.hello()
    argv, env = speaker(keeper, "")
    words = [f"STATUS={n}" for n in range(2000)] + ["RELOADING=1", "READY=1", "STATUS=last"]
    go = f"{keeper.path}.go"
    peer.spawn("a", "sh", "-c", f'mkfifo {go}; read x < {go}; exec "$@"', "sh", *argv, *words, env=env)
    peer.close()
    keeper.peers.remove(peer)
    with open(go, "w") as line:
        line.write("\n")
    pid = keeper.children()[0]
    until(lambda: _is_zombie(pid), "the end of a daemon that says much")
    found = keeper.connect()
    found.ask("hello", v=2)
    told = found.event("instance", "a")
    assert told["notices"] == {"READY": "1", "STATUS": "last"}  # no longer RELOADING
    assert told["exit"] == {"code": os.CLD_EXITED, "status": 0}


def test_a_manager_that_takes_nothing_is_told_the_newest_when_it_does(keeper: KeeperProcess) -> None:
    peer = keeper.hello()
    flood = "[s.sendto(b'STATUS=' + b'x' * 2000, os.environ['NOTIFY_SOCKET']) for n in range(2000)]\n"  # 4 MB
    last = "s.sendto(b'STATUS=last', os.environ['NOTIFY_SOCKET']); time.sleep(1000)"
    argv, env = speaker(keeper, flood + last)
    peer.spawn("a", *argv, env=env)
    until(lambda: _has_said_all(keeper.children()[0]), "the last word")
    before = _memory_kib(keeper.process.pid)
    assert notices(peer, "a")["STATUS"] == "last"
    assert before < 64 * 1024


def test_children_speak_for_their_daemon_and_strangers_do_not(keeper: KeeperProcess) -> None:
    peer = keeper.hello()
    argv, env = speaker(keeper, "")
    peer.spawn("a", "sh", "-c", '"$@" & wait; exec sleep 1000', "sh", *argv, "STATUS=last", env=env)
    assert notices(peer, "a") == {"STATUS": "last"}
    notify.send("STATUS=last", path=str(keeper.notify_path))  # we ourselves: told, but of nobody
    assert notices(peer, None) == {"STATUS": "last"}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: only it can have a process of another user")
def test_another_user_cannot_speak_by_taking_the_marker(keeper: KeeperProcess) -> None:
    keeper.path.parent.chmod(0o711)
    keeper.notify_path.chmod(0o666)
    peer = keeper.hello()
    argv, env = speaker(keeper)
    argv[-1] = argv[-1].replace("s = socket", "os.setgid(65534); os.setuid(65534); s = socket")
    peer.spawn("a", "sleep", "1000", env=env)
    peer.spawn("b", *argv, "READY=1", "STATUS=last", env={**env, "DUENDE_INSTANCE_ID": "other.1"})
    assert notices(peer, "b") == {"READY": "1", "STATUS": "last"}  # it may well change its user
    # A process of that user outside any instance, with the marker of `a` in its environment.
    with subprocess.Popen([*argv, "READY=1", "STATUS=last"], env=env) as stranger:
        try:
            assert notices(peer, None)["STATUS"] == "last"
        finally:
            stranger.kill()
    again = keeper.connect()
    again.ask("hello", v=2)
    assert again.event("instance", "a")["notices"] == {}


def _is_zombie(pid: int) -> bool:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "Z"


def _has_said_all(pid: int) -> bool:
    """It sleeps for long, rather than in a send."""
    with open(f"/proc/{pid}/wchan") as file:
        return "nanosleep" in file.read()


def _memory_kib(pid: int) -> int:
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))
