"""A process id that comes round never leads to a stranger; exits of strangers are told by the kernel."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import duende.errors
from duende.errors import NotFound
from duende.model.exits import ExitReason
from duende.system import process, procfs
from duende.system.failure import errno_of
from duende.system.process import ExitStatus, Identity

SOURCE = str(Path(duende.errors.__file__).parent.parent)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that does nothing until it is ended."""
    child = subprocess.Popen(["sleep", "60"])
    yield child
    child.kill()
    child.wait()


# Inside a pid namespace of its own, where the next id can be chosen: make a process, end it, give its id to another.
RECYCLED = """
import os, signal
from dataclasses import replace
from duende.system.process import identify, open_identified

def child():
    pid = os.fork()
    if pid == 0:
        while True: signal.pause()
    return pid

def end(pid):
    os.kill(pid, 9); os.waitpid(pid, 0)

def successor(pid):
    with open("/proc/sys/kernel/ns_last_pid", "w") as file: file.write(str(pid - 1))
    again = child()
    assert again == pid, (again, pid)
    return again

same_tick = other_tick = 0
for attempt in range(400):
    pid = child()
    before = identify(pid)
    end(pid)
    assert open_identified(before) is None and identify(pid) is None
    successor(pid)
    now = identify(pid)
    if now.start_ticks == before.start_ticks:
        same_tick += 1
        assert now.inode is None or open_identified(before) is None, "a stranger of the same tick"
    else:
        other_tick += 1
        assert open_identified(before) is None, "a stranger"
        assert open_identified(replace(before, inode=None)) is None, "a stranger, by start time alone"
    fd = open_identified(now)
    assert fd is not None
    os.close(fd)
    end(pid)
    if same_tick and other_tick: break
print("same tick", same_tick > 0, "other tick", other_tick > 0)
"""


@pytest.mark.claim("F102")
@pytest.mark.real
def test_a_recycled_id_is_never_opened() -> None:
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("needs root on Linux to make a pid namespace")
    done = subprocess.run(
        ["unshare", "-pf", "--mount-proc", sys.executable, "-c", RECYCLED],
        env={**os.environ, "PYTHONPATH": SOURCE},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stdout == "same tick True other tick True\n", done.stderr


def test_an_identified_process_is_opened(sleeper: subprocess.Popen[bytes]) -> None:
    identity = process.identify(sleeper.pid)
    assert identity is not None
    fd = process.open_identified(identity)
    assert fd is not None
    process.send_signal(fd, signal.SIGTERM)
    os.close(fd)
    assert sleeper.wait(5) == -signal.SIGTERM


@pytest.mark.parametrize("change", [{"start_ticks": 1}, {"boot_id": "another"}, {"inode": 1}])
def test_any_difference_makes_a_stranger(sleeper: subprocess.Popen[bytes], change: dict[str, object]) -> None:
    identity = process.identify(sleeper.pid)
    assert identity is not None
    if identity.inode is None and "inode" in change:
        pytest.skip("needs pidfs (Linux 6.9)")
    before = len(os.listdir("/proc/self/fd"))
    assert process.open_identified(replace(identity, **change)) is None  # type: ignore[arg-type]  # any field
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_does_not_exist_has_no_identity(sleeper: subprocess.Popen[bytes]) -> None:
    identity = process.identify(sleeper.pid)
    assert identity is not None
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert process.identify(sleeper.pid) == identity, "a zombie keeps its identity"
    sleeper.wait()
    assert process.identify(sleeper.pid) is None
    assert process.open_identified(identity) is None
    assert process.identify(0) is None
    assert process.identify(-1) is None
    assert process.open_identified(Identity(0, 1, process.boot_id())) is None


def test_signalling_the_reaped_is_not_found(sleeper: subprocess.Popen[bytes]) -> None:
    fd = process.pidfd_open(sleeper.pid)
    assert not process.has_exited(fd)
    sleeper.kill()
    sleeper.wait()
    assert process.has_exited(fd)
    with pytest.raises(NotFound, match="cannot send signal 15") as caught:
        process.send_signal(fd, 15)
    assert errno_of(caught.value) == 3
    assert isinstance(caught.value.__cause__, ProcessLookupError)
    os.close(fd)
    with pytest.raises(NotFound, match="there is no such process"):
        process.pidfd_open(sleeper.pid)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("os._exit(0)", ExitStatus(0, None)),
        ("os._exit(37)", ExitStatus(37, None)),
        ("os.kill(os.getpid(), 9)", ExitStatus(None, 9)),
        ("os.kill(os.getpid(), 15)", ExitStatus(None, 15)),
    ],
)
def test_the_kernel_tells_a_stranger_how_a_process_ended(code: str, expected: ExitStatus) -> None:
    # The shell is the parent and reaps; we hold no more than a pidfd.
    program = f"import os; print(os.getpid(), flush=True); os.read(0, 1); {code}"
    shell = subprocess.Popen(
        ["sh", "-c", '"$0" -S -c "$1"; echo reaped $?', sys.executable, program],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert shell.stdout is not None
    fd = process.pidfd_open(int(shell.stdout.readline()))
    assert process.exit_status_of(fd) is None, "it still runs"
    out, _ = shell.communicate("x", 10)
    assert out.startswith("reaped")
    status = process.exit_status_of(fd)
    os.close(fd)
    if status is None and tuple(int(part) for part in os.uname().release.split(".")[:2]) < (6, 15):
        pytest.skip("needs PIDFD_INFO_EXIT (Linux 6.15)")
    assert status == expected


def test_a_zombie_has_no_status_yet() -> None:
    pid = os.posix_spawn(sys.executable, [sys.executable, "-S", "-c", "import os; os._exit(3)"], os.environ)
    fd = process.pidfd_open(pid)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert process.exit_status_of(fd) is None
    os.waitpid(pid, 0)
    os.close(fd)


def test_statuses_become_exit_infos() -> None:
    assert ExitStatus.from_wait_status(0x0500) == ExitStatus(5, None)
    assert ExitStatus.from_wait_status(0x0086) == ExitStatus(None, 6, core_dumped=True)
    assert ExitStatus(None, 6, True).to_exit_info(at_s=2.0).message == "killed by SIGABRT (core dumped)"
    assert ExitStatus(0, None).to_exit_info().reason is ExitReason.GRACEFUL


SUBREAPER = """
import os
from duende.system import process, procfs
process.set_child_subreaper()
read, write = os.pipe()
child = os.fork()
if child == 0:
    if os.fork() == 0:
        os.close(write); os.read(read, 1); os._exit(7)
    os._exit(0)
os.waitpid(child, 0)
(orphan,) = procfs.children(os.getpid())
os.close(write)
print(os.waitstatus_to_exitcode(os.waitpid(orphan, 0)[1]))
process.set_process_name("duende-übergroß")
print(procfs.stat(os.getpid()).comm)
"""


def test_a_subreaper_inherits_orphans_and_a_name_is_cut_between_characters() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SUBREAPER],
        env={**os.environ, "PYTHONPATH": SOURCE, "PYTHONIOENCODING": "utf-8"},
        capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    assert done.stdout.splitlines() == ["7", "duende-übergro"], done.stderr


def test_names_that_lie_do_not_confuse_the_parser() -> None:
    text = b"12 (a) R 1 (\n) b) S 3 4 5 0 -1 4194560 1 2 3 4 70 80 0 0 20 0 9 0 4711 1 2\n"
    found = procfs.parse_stat(text)
    assert found is not None
    assert (found.pid, found.comm, found.state) == (12, "a) R 1 (\n) b", "S")
    assert (found.ppid, found.pgrp, found.session) == (3, 4, 5)
    assert (found.utime_ticks, found.stime_ticks, found.threads, found.start_ticks) == (70, 80, 9, 4711)
    assert procfs.parse_stat(b"") is None
    assert procfs.parse_stat(b"12 (cut) S 3") is None


def test_the_tree_is_read_from_proc() -> None:
    shell = subprocess.Popen(
        ["sh", "-c", "setsid sh -c 'sleep 60 & echo $$ $!; wait' & wait"],
        stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert shell.stdout is not None
    middle, leaf = (int(part) for part in shell.stdout.readline().split())
    try:
        assert procfs.children(shell.pid) == [middle]
        assert procfs.descendants(shell.pid) == [middle, leaf]
        assert shell.pid in procfs.processes_in_session(shell.pid)
        assert procfs.processes_in_session(middle) == procfs.processes_in_group(middle) == sorted([middle, leaf])
        assert {shell.pid, middle, leaf} <= set(procfs.list_pids())
        assert procfs.cmdline(middle) == ["sh", "-c", "sleep 60 & echo $$ $!; wait"]  # the leaf may not have executed
    finally:
        for pid in (shell.pid, middle, leaf):  # from above: who waits for the one below is still there
            os.kill(pid, 9)
        shell.communicate()


def test_memory_and_descriptors_of_a_process() -> None:
    before = procfs.memory(os.getpid())
    block = b"x" * (32 << 20)
    after = procfs.memory(os.getpid())
    assert before is not None
    assert after is not None
    assert before.pss_bytes is not None
    assert after.pss_bytes is not None
    assert after.rss_bytes - before.rss_bytes > 30 << 20, len(block)
    assert after.pss_bytes - before.pss_bytes > 30 << 20
    cheap = procfs.memory(os.getpid(), with_pss=False)
    assert cheap is not None
    assert cheap.pss_bytes is None
    count = procfs.fd_count(os.getpid())
    read, write = os.pipe()
    assert count is not None
    assert procfs.fd_count(os.getpid()) == count + 2
    os.close(read)
    os.close(write)


def test_what_is_gone_is_none_and_never_an_error(sleeper: subprocess.Popen[bytes]) -> None:
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    zombie = procfs.stat(sleeper.pid)
    assert zombie is not None
    assert zombie.state == "Z"
    assert procfs.cmdline(sleeper.pid) == []
    sleeper.wait()
    for read in (procfs.stat, procfs.memory, procfs.cmdline, procfs.fd_count):
        assert read(sleeper.pid) is None
    assert procfs.children(sleeper.pid) == procfs.descendants(sleeper.pid) == []
