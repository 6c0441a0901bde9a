"""The keeper's own rules, with a real keeper and no manager: what it holds, what it tells, whom it believes."""

from __future__ import annotations

import ast
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.keeper.conftest import KEEPER, KeeperProcess, until

pytestmark = pytest.mark.real


def test_it_imports_nothing_but_the_standard_library() -> None:
    siblings = {file.stem for file in KEEPER.parent.glob("*.py")} - {"__init__", "restarter"}
    allowed = sys.stdlib_module_names | siblings
    for file in KEEPER.parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                assert {alias.name.partition(".")[0] for alias in node.names} <= allowed, file
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{file}: relative"
                assert (node.module or "").partition(".")[0] in allowed, file


def test_everything_is_imported_before_the_first_fork(keeper: KeeperProcess) -> None:
    """An upgrade may replace the files under it: no module of ours is opened by a spawn."""
    peer = keeper.hello()
    before = set(Path(f"/proc/{keeper.process.pid}/maps").read_text().split())
    peer.spawn("a", "true")
    peer.spawn("b", "/no/such")
    after = set(Path(f"/proc/{keeper.process.pid}/maps").read_text().split())
    assert not {word for word in after - before if word.endswith(".so")}


def test_it_spawns_tells_the_exit_and_holds_it_until_release(keeper: KeeperProcess) -> None:
    peer = keeper.hello()
    answer = peer.spawn("a#1", "sh", "-c", "exit 7")
    assert (answer["ok"], answer["id"], answer["executed"]) == (True, "a#1", True)
    assert answer["start_ticks"] > 0
    assert peer.event("exit", "a#1") == {"ev": "exit", "id": "a#1", "code": os.CLD_EXITED, "status": 7}
    assert keeper.children() == [answer["pid"]]  # a zombie: its number is not free
    assert peer.ask("quit")["ok"] is False
    peer.tell({"op": "release", "id": "a#1"})
    until(lambda: keeper.children() == [], "the reaping")
    assert peer.ask("quit") == {"n": peer.n, "ok": True, "instances": 0}
    assert keeper.process.wait(10) == 0


def test_a_failed_start_is_told_by_stage_errno_and_path_and_leaves_nothing(keeper: KeeperProcess) -> None:
    peer = keeper.hello()
    peer.ask("quit now?")  # refused; by then the copies that went out with the hello are closed
    before = keeper.descriptors()
    for spec, error in [
        ({"argv": ["/no/such"]}, {"stage": "exec", "errno": 2, "path": "/no/such"}),
        ({"argv": ["true"], "cwd": "/no/such"}, {"stage": "cwd", "errno": 2, "path": "/no/such"}),
        ({"argv": ["true"], "cgroup_procs": ["/no/procs"]}, {"stage": "cgroup", "errno": 2, "path": "/no/procs"}),
        ({"argv": ["true"], "rlimits": {"NOFILE": [9, 5]}}, {"stage": "rlimit", "errno": 22, "path": "NOFILE"}),
        ({"argv": ["true"], "rlimits": {"NONE": [1, 1]}}, {"stage": "rlimit", "errno": 22, "path": "NONE"}),
    ]:
        assert peer.ask("spawn", id="x", spec=spec)["error"] == error
    for spec in ({"argv": [1]}, {"argv": ["true"], "env": 5}, {"argv": ["true"], "umask": "x"}, {"argv": 5}):
        assert peer.ask("spawn", id="x", spec=spec)["error"]["stage"].startswith("setup")
    until(lambda: keeper.children() == [] and keeper.descriptors() == before, "the end of all of it")
    assert peer.ask("quit")["ok"]


def test_quit_is_refused_while_anything_is_held(keeper: KeeperProcess) -> None:
    peer = keeper.hello()
    peer.spawn("a", "sleep", "1000")
    assert peer.ask("quit") == {"n": peer.n, "ok": False, "instances": 1}
    assert keeper.is_well()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_it_does_not_leave_its_instances_for_a_signal(keeper: KeeperProcess, number: int) -> None:
    peer = keeper.hello()
    peer.spawn("a", "sleep", "1000")
    keeper.process.send_signal(number)
    assert peer.spawn("b", "sleep", "1000")["ok"]
    assert keeper.is_well()


def test_sigterm_ends_one_that_holds_nothing(keeper: KeeperProcess) -> None:
    keeper.hello()
    keeper.process.send_signal(signal.SIGTERM)
    assert keeper.process.wait(10) == 0


def test_a_newer_manager_replaces_the_older_and_learns_everything(keeper: KeeperProcess) -> None:
    old = keeper.hello()
    running = old.spawn("a", "sleep", "1000")
    old.spawn("b", "true")
    old.event("exit", "b")
    new = keeper.connect()
    hello = new.ask("hello", v=1)
    assert (hello["v"], hello["pid"], hello["count"]) == (2, keeper.process.pid, 2)
    known = {key: value for key, value in running.items() if key not in ("n", "ok")}
    assert new.event("instance", "a") == {"ev": "instance", **known}
    assert new.event("instance", "b")["exit"] == {"code": os.CLD_EXITED, "status": 0}
    assert old.is_cut()
    os.kill(running["pid"], 15)
    assert new.event("exit", "a")["status"] == 15


def test_the_pipes_are_handed_to_every_manager_and_lose_nothing(keeper: KeeperProcess) -> None:
    first = keeper.hello()
    first.spawn("a", "sh", "-c", "echo one; echo two >&2; exec sleep 1000")
    second = keeper.connect()
    second.ask("hello", v=1)
    while not [1 for message, _ in second.inbox if message.get("id") == "a"]:
        assert second.fill()
    ((_, fds),) = [one for one in second.inbox if one[0].get("id") == "a"]
    said = []
    for fd in fds[:2]:
        until(lambda fd=fd: _try_read(fd, said), "the output")  # type: ignore[misc]
    assert said == [b"one\n", b"two\n"]


def _try_read(fd: int, said: list[bytes]) -> bool:
    try:
        said.append(os.read(fd, 100))
    except BlockingIOError:
        return False
    return True


def test_a_manager_that_dies_before_its_answer_costs_nothing(keeper: KeeperProcess) -> None:
    """The answer then fails with EPIPE in the midst of handling the request."""
    holder = keeper.hello()
    kept = holder.spawn("kept", "sleep", "1000")
    for _ in range(30):
        for message in ({"op": "hello", "v": 1}, {"op": "nonsense"}, {"op": "quit"}):
            peer = keeper.connect()
            peer.tell(message)
            peer.close()
            keeper.peers.remove(peer)
    last = keeper.hello()
    assert last.event("instance", "kept")["pid"] == kept["pid"]
    assert keeper.is_well()


GARBAGE: list[bytes] = [
    b"GET / HTTP/1.1\r\n\r\n", b"\0" * 5, b"\xff" * 100, struct.pack(">IB", 2, 9) + b"{}",
    *(struct.pack(">IB", len(text), 0) + text for text in (
        b"{", b"[]", b"null", b'{"op":"spawn"}', b'{"op":"spawn","id":5,"spec":{}}',
        b'{"op":"spawn","id":"x","spec":[]}',
        b'{"op":"spawn","id":"x","spec":{}}', b'{"op":"spawn","id":"x","spec":{"argv":["true"],"rlimits":[1]}}',
        b'{"op":"release"}', b'{"op":"release","id":{}}', b'{"op":"release","id":[1]}', b'{"op":"zygote"}',
        b'{"op":"zygote","argv":5,"env":5}', b'{"op":{"a":1}}', b'{"op":["spawn"]}', b"[" * 100_000,
        b'{"op":"release","id":"no"}',
        b'{"op":"spawn","id":"x","n":{"a":[]},"spec":{"argv":["/no"]}}',
    )),
]  # fmt: skip


@pytest.mark.parametrize("data", GARBAGE, ids=range(len(GARBAGE)))
def test_rubbish_from_a_manager_harms_no_instance(keeper: KeeperProcess, data: bytes) -> None:
    holder = keeper.hello()
    kept = holder.spawn("kept", "sleep", "1000")
    peer = keeper.connect()
    peer.sock.sendall(data)
    peer.sock.shutdown(1)
    assert peer.is_cut()
    last = keeper.hello()
    assert last.event("instance", "kept")["pid"] == kept["pid"]
    assert keeper.is_well()


def test_a_manager_that_does_not_read_blocks_nobody_and_gets_it_all_later(keeper: KeeperProcess) -> None:
    peer = keeper.hello()
    for n in range(1000):
        peer.tell({"op": "spawn", "id": f"i#{n}", "spec": {"argv": ["/bin/true"], "env": {}}, "note": "x" * 300})
    until(lambda: len(keeper.children()) == 1000 and keeper.is_well(), "a thousand ended instances")
    ended = {peer.wait(lambda message: message.get("ev") == "exit")["id"] for _ in range(1000)}
    assert len(ended) == 1000
    for key in ended:
        peer.tell({"op": "release", "id": key})
    until(lambda: keeper.children() == [], "the reaping")
    assert peer.ask("quit")["ok"]


def test_another_user_is_refused(keeper: KeeperProcess) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user")
    keeper.path.parent.chmod(0o755)
    keeper.path.chmod(0o777)
    code = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); "
    code += "s.sendall(b'\\0\\0\\0\\x0e\\0{\"op\":\"hello\"}'); print(s.recv(100))"
    holder = keeper.hello()
    answers = {}
    for user in (65534, 0):
        argv = ["/usr/bin/python3", "-c", code, str(keeper.path)]
        done = subprocess.run(argv, user=user, capture_output=True, text=True, timeout=20, check=False)
        answers[user] = done.stdout.strip() or done.stderr.splitlines()[-1].partition(":")[0]
        if user:
            assert holder.spawn("a", "sleep", "1000")["ok"]  # and it replaces nobody
    assert answers[65534] in ("b''", "BrokenPipeError", "ConnectionResetError")
    assert answers[0].startswith("b'\\x00"), answers


def test_what_an_instance_leaves_behind_is_reaped_though_an_exited_instance_is_held(keeper: KeeperProcess) -> None:
    peer = keeper.hello()
    first = peer.spawn("held", "true")
    peer.event("exit", "held")
    peer.spawn("a", "sh", "-c", "for i in 1 2 3 4 5; do (setsid sleep 0.05 &) ; done; sleep 1000")
    until(lambda: len(keeper.children()) == 2 and keeper.children()[0] == first["pid"], "the reaping of the strangers")
    assert keeper.is_well()


def test_stops_are_told(keeper: KeeperProcess) -> None:
    peer = keeper.hello()
    pid = peer.spawn("a", "sleep", "1000")["pid"]
    os.kill(pid, signal.SIGSTOP)
    peer.event("stopped", "a")
    os.kill(pid, signal.SIGCONT)
    peer.event("continued", "a")


def test_the_same_spawn_twice_is_one_and_both_are_answered(keeper: KeeperProcess) -> None:
    peer = keeper.hello()
    spec: dict[str, Any] = {"argv": ["sleep", "1000"], "env": {"PATH": os.environ["PATH"]}}
    first = peer.tell({"op": "spawn", "id": "a", "spec": spec})
    second = peer.tell({"op": "spawn", "id": "a", "spec": spec})
    answers = [peer.wait(lambda message, n=n: message.get("n") == n) for n in (first, second)]  # type: ignore[misc]
    assert answers[0]["pid"] == answers[1]["pid"]
    assert len(keeper.children()) == 1


def test_a_spawn_whose_asker_is_gone_is_told_to_its_successor(keeper: KeeperProcess, tmp_path: Path) -> None:
    """A FIFO as a script's interpreter stands for an execve that takes its time: the open of the cgroup file blocks."""
    fifo = tmp_path / "procs"
    os.mkfifo(fifo)
    old = keeper.hello()
    old.tell({"op": "spawn", "id": "a", "spec": {"argv": ["/bin/sleep", "1000"], "cgroup_procs": [str(fifo)]}})
    until(lambda: len(keeper.children()) == 1, "the fork")
    new = keeper.connect()
    assert new.ask("hello", v=1)["count"] == 0  # it may still fail
    with fifo.open("rb"):  # now it goes on
        told = new.event("instance", "a")
    assert told["executed"]
    assert told["pid"] == keeper.children()[0]


def test_one_that_fails_after_its_asker_is_gone_is_forgotten(keeper: KeeperProcess, tmp_path: Path) -> None:
    fifo = tmp_path / "procs"
    os.mkfifo(fifo)
    old = keeper.hello()
    old.tell({"op": "spawn", "id": "a", "spec": {"argv": ["/no/such"], "cgroup_procs": [str(fifo)]}})
    until(lambda: len(keeper.children()) == 1, "the fork")
    new = keeper.hello()
    with fifo.open("rb"):
        until(lambda: keeper.children() == [], "its end")
    assert new.ask("quit")["ok"]


# A zygote that obeys its first letter: die at once, take the request and die, or say that it could not fork.
ZYGOTE = """
import json, os, socket, struct, sys
sock = socket.socket(fileno=int(os.environ["DUENDE_ZYGOTE_FD"]))
if sys.argv[1] == "die": os._exit(1)
data, fds, _, _ = socket.recv_fds(sock, 65536, 10)
if sys.argv[1] == "take": os._exit(1)
n = json.loads(data[5:])["n"]
text = json.dumps({"n": n, "error": {"stage": "fork", "errno": 11, "path": ""}}).encode()
sock.sendall(struct.pack(">IB", len(text), 0) + text)
sock.recv(1)
"""


@pytest.mark.parametrize(("how", "error"), [
    ("take", {"stage": "zygote", "errno": 11, "path": ""}), ("refuse", {"stage": "fork", "errno": 11, "path": ""}),
])  # fmt: skip
def test_a_zygote_that_is_lost_or_refuses_fails_the_spawn_and_nothing_else(
    keeper: KeeperProcess, how: str, error: dict[str, Any]
) -> None:
    peer = keeper.hello()
    peer.ask("quit now?")  # refused; by then the copies that went out with the hello are closed
    before = keeper.descriptors()
    assert peer.ask("zygote", argv=[sys.executable, "-c", ZYGOTE, how], env={"PATH": os.environ["PATH"]})["ok"]
    answer = peer.ask("spawn", id="a", spec={"argv": ["x"], "zygote": True, "control": True})
    assert answer["error"] == error
    if how == "take":
        peer.wait(lambda message: message.get("ev") == "zygote-lost")
        until(lambda: keeper.children() == [] and keeper.descriptors() == before, "the end of all of it")
    assert peer.spawn("a", "sleep", "1000")["ok"]  # the name is free again
    assert keeper.is_well()


def test_a_zygote_that_dies_at_once_is_told_and_may_be_started_anew(keeper: KeeperProcess) -> None:
    peer = keeper.hello()
    for _ in range(3):
        peer.ask("zygote", argv=[sys.executable, "-c", ZYGOTE, "die"], env={})
        peer.wait(lambda message: message.get("ev") == "zygote-lost")
    assert keeper.is_well()
    # Without one, a spawn that wants it is executed as a plain program.
    assert peer.ask("spawn", id="a", spec={"argv": ["/bin/sleep", "1000"], "zygote": True, "control": True})["ok"]


def test_a_writer_outlives_keeper_and_manager(keeper: KeeperProcess, tmp_path: Path) -> None:
    """No SIGPIPE: the write end is open for reading too, in the daemon itself."""
    peer = keeper.hello()
    beat = tmp_path / "beat"
    pid = peer.spawn("a", "sh", "-c", f"while sleep 0.02; do echo x; echo $$ > {beat}; done")["pid"]
    until(beat.exists, "its first line")
    peer.close()
    keeper.peers.remove(peer)
    keeper.process.kill()
    keeper.process.wait()
    beat.unlink()
    until(beat.exists, "another line, written to a pipe that nobody reads")
    os.kill(pid, signal.SIGKILL)
    until(lambda: not os.path.exists(f"/proc/{pid}") or _is_zombie(pid), "its end")


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True
