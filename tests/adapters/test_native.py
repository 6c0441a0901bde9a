"""The native adapter as a library: from the spawn to the exit, with real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import duende
from duende.adapters.base import InstanceContinued, InstanceExited, InstanceKey, InstancePaused, InstanceReady
from duende.config.daemon import DaemonConfig, KillMode, ReadyConfig
from duende.errors import ConfigError, NotFound, NotSupported, PlatformError, ResourceLimit, SpawnFailed
from duende.model.exits import ExitReason
from duende.model.ids import DaemonId
from duende.model.limits import ResourceConfig
from tests.adapters.conftest import Bench, Play, cgroups_of, is_alive, read, until

pytestmark = pytest.mark.real


def _python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-S", "-c", code)


def test_a_command_is_executed_signalled_and_reaped(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        spawned = await bench.spawn("sleep", "1000")
        assert not spawned.awaits_ready
        pid = spawned.handle.pid
        assert pid is not None
        assert read(f"/proc/{pid}/cmdline") == "sleep\x001000\x00"
        assert (await bench.adapter.status(spawned.handle)).running
        await bench.adapter.signal(spawned.handle, 15)
        exited = await bench.event(InstanceExited)
        assert (exited.exit.reason, exited.exit.signal, exited.survivors) == (ExitReason.SIGNAL, 15, ())
        # Its number is not free until the exit is taken.
        assert read(f"/proc/{pid}/stat").rpartition(")")[2].split()[0] == "Z"
        report = await bench.adapter.status(spawned.handle)
        assert (report.running, report.exit) == (False, exited.exit)
        with pytest.raises(NotFound, match=f"native:pid{pid} has ended"):
            await bench.adapter.signal(spawned.handle, 15)
        with pytest.raises(NotFound):
            await bench.adapter.kill(spawned.handle)
        await bench.adapter.release(exited.key)
        await until(lambda: not os.path.exists(f"/proc/{pid}"), "the reaping")

    play(scene)


def test_readiness_by_notify_is_awaited_and_comes_from_the_tree_only(play: Play) -> None:
    code = "import os, socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
    code += "s.sendto(b'READY=1\\nSTATUS=warm', os.environ['NOTIFY_SOCKET']); input()"

    async def scene(bench: Bench) -> None:
        spawned = await bench.spawn(*_python(code.replace("input()", "import time; time.sleep(1000)")),
                                    ready=ReadyConfig(notify=True))  # fmt: skip
        assert spawned.awaits_ready
        assert (await bench.event(InstanceReady)).key == InstanceKey("d", 1)
        # A stranger of the same user: its word counts for nothing.
        from duende.system import notify

        other = await bench.spawn("sleep", "1000", name="other", ready=ReadyConfig(notify=True))
        notify.send("READY=1", path=str(bench.directory / "notify.sock"))
        await bench.adapter.kill(other.handle)
        await bench.event(InstanceExited, InstanceKey("other", 1))
        assert not [event for event in bench.events if isinstance(event, InstanceReady)]

    play(scene)


@pytest.mark.parametrize("number", [1, 2, 3, 4, 6, 8, 10, 11, 12, 13, 14, 15, 24, 31, 34, 64])
def test_each_deadly_signal_is_told_by_its_number(play: Play, number: int) -> None:
    async def scene(bench: Bench) -> None:
        spawned = await bench.spawn("sleep", "1000")
        await bench.adapter.signal(spawned.handle, number)
        exited = await bench.end()
        assert (exited.exit.reason, exited.exit.signal, exited.exit.code) == (ExitReason.SIGNAL, number, None)

    play(scene)


@pytest.mark.parametrize("code", [0, 1, 42, 127, 255])
def test_the_exit_code_is_told(play: Play, code: int) -> None:
    async def scene(bench: Bench) -> None:
        await bench.spawn("sh", "-c", f"exit {code}")
        exited = await bench.end()
        assert exited.exit.code == code
        assert exited.exit.reason is (ExitReason.GRACEFUL if code == 0 else ExitReason.ERROR)

    play(scene)


def test_pause_and_resume_reach_the_whole_tree_and_are_reported_whoever_does_it(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        spawned = await bench.spawn("sh", "-c", "sleep 1000 & sleep 1000 & wait")
        tree = bench.adapter.tree_of(spawned.handle)
        await until(lambda: len(tree.pids()) == 3, "the children")
        await bench.adapter.pause(spawned.handle)
        await bench.event(InstancePaused)
        await until(lambda: {_state(pid) for pid in tree.pids()} == {"T"}, "the whole tree's pause")
        assert (await bench.adapter.status(spawned.handle)).paused
        await bench.adapter.resume(spawned.handle)
        await bench.event(InstanceContinued)
        assert not (await bench.adapter.status(spawned.handle)).paused
        assert spawned.handle.pid is not None
        os.kill(spawned.handle.pid, signal.SIGSTOP)  # from outside
        await bench.event(InstancePaused)
        await bench.adapter.kill(spawned.handle)  # what stands still can be killed
        assert (await bench.end()).exit.signal == 9

    play(scene)


def _state(pid: int) -> str:
    return read(f"/proc/{pid}/stat").rpartition(")")[2].split()[0]


def test_a_core_dump_is_told(play: Play, folder: Path) -> None:
    pattern = Path("/proc/sys/kernel/core_pattern").read_text()
    if not pattern.startswith("core"):
        pytest.skip(f"needs core files in the working directory; kernel.core_pattern is {pattern!r}")

    async def scene(bench: Bench) -> None:
        spawned = await bench.spawn(
            "sleep", "1000", working_dir=folder, resources=ResourceConfig(core_size_bytes=1 << 24)
        )
        await bench.adapter.signal(spawned.handle, 11)
        exited = await bench.end()
        assert (exited.exit.signal, exited.exit.core_dumped) == (11, True)
        assert exited.exit.message == "killed by SIGSEGV (core dumped)"

    play(scene)


REFUSED: list[tuple[str, Callable[[Path], dict[str, Any]], int, str]] = [
    ("missing", lambda p: {"command": ("/nonexistent/program",)}, 2,
     "cannot execute '/nonexistent/program': No such file or directory (ENOENT)"),
    ("not in PATH", lambda p: {"command": ("no-such-program",), "env": {"PATH": "/bin:/usr/bin"}}, 2,
     "cannot execute 'no-such-program': No such file or directory (ENOENT); it is not in PATH=/bin:/usr/bin"),
    ("not executable", lambda p: {"command": (_file(p, "plain", "x", 0o644),)}, 13, "Permission denied (EACCES)"),
    ("a directory", lambda p: {"command": (str(p),)}, 13, "Permission denied (EACCES)"),
    ("no interpreter line", lambda p: {"command": (_file(p, "text", "hello\n", 0o755),)}, 8, "(ENOEXEC)"),
    ("interpreter missing", lambda p: {"command": (_file(p, "s", "#!/no/such\n", 0o755),)}, 2,
     "the interpreter in its first line"),
    ("below a file", lambda p: {"command": ("/etc/passwd/x",)}, 20, "(ENOTDIR)"),
    ("a loop of links", lambda p: {"command": (_loop(p),)}, 40, "(ELOOP)"),
    ("too long a path", lambda p: {"command": ("/" + "x" * 100_000,)}, 36, "(ENAMETOOLONG)"),
    ("a NUL in an argument", lambda p: {"command": ("sleep", "1\0002")}, 22, "(EINVAL)"),
]  # fmt: skip


def _file(folder: Path, name: str, text: str, mode: int) -> str:
    path = folder / name
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def _loop(folder: Path) -> str:
    (folder / "a").symlink_to(folder / "b")
    (folder / "b").symlink_to(folder / "a")
    return str(folder / "a")


@pytest.mark.parametrize(("make", "number", "words"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_what_cannot_be_executed_is_told_with_errno_and_path(
    play: Play, folder: Path, make: Callable[[Path], dict[str, Any]], number: int, words: str
) -> None:
    async def scene(bench: Bench) -> None:
        with pytest.raises(SpawnFailed) as caught:
            await bench.adapter.spawn(DaemonConfig("d", **make(folder)), DaemonId.new())
        assert (caught.value.errno, caught.value.stage) == (number, "exec")
        assert words in str(caught.value)
        assert len(str(caught.value)) < 3000
        assert not bench.troubles()
        assert not cgroups_of(bench.stack)

    play(scene)


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"BIG": "x" * (1 << 20)}, "the variable BIG has 1048581 bytes; the kernel takes 131072 in one string"),
        ({f"V{n}": "x" * 100_000 for n in range(105)}, "bytes"),
        ({f"V{n}": "x" * 130_000 for n in range(600)}, "bytes"),
    ],
    ids=["1 MiB in one", "10 MiB in all", "78 MiB in all"],
)
def test_what_no_execve_would_take_is_refused_before_anything_is_started(
    play: Play, env: dict[str, str], words: str
) -> None:
    async def scene(bench: Bench) -> None:
        with pytest.raises((ConfigError, SpawnFailed), match=words) as caught:
            await bench.spawn("sleep", "1000", env=env)
        assert len(str(caught.value)) < 3000
        assert await bench.adapter.end_keeper()  # it holds nothing

    play(scene)


@pytest.mark.parametrize(
    ("fields", "kind", "words"),
    [
        ({"working_dir": Path("/no/such")}, SpawnFailed, "cannot enter the working directory '/no/such': No such file"),
        ({"working_dir": Path("/etc/passwd")}, SpawnFailed, "Not a directory (ENOTDIR)"),
        ({"user": "no-such-user"}, ConfigError, "no user 'no-such-user' on this machine (getent passwd no-such-user)"),
        ({"group": "no-such-group"}, ConfigError, "no group 'no-such-group' on this machine"),
    ],
)
def test_a_bad_place_or_user_is_told(play: Play, fields: dict[str, Any], kind: type[Exception], words: str) -> None:
    async def scene(bench: Bench) -> None:
        with pytest.raises(kind) as caught:
            await bench.spawn("sleep", "1000", **fields)
        assert words in str(caught.value)

    play(scene)


def test_the_environment_is_exact(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        await bench.adapter.close()
        seen: dict[str, bytes] = {}
        fds: list[int] = []
        base = {"PATH": "/bin:/usr/bin", "KEEP": "1", "DUENDE_SECRET": "x", "NOTIFY_SOCKET": "/s", "LISTEN_FDS": "3"}
        take = lambda key, config, stdout, stderr: fds.extend((stdout, stderr))  # noqa: E731
        bench.adapter = bench.new_adapter(base_environment=base, on_output=take)
        await bench.open()
        for name, clean in (("plain", False), ("clean", True)):
            await bench.spawn("/usr/bin/env", "-0", name=name, clean_env=clean, env={"MINE": "a=b\nc", "KEEP": "2"})
            await bench.end(name)
            seen[name] = os.read(fds[-2], 65536)
        for fd in fds:
            os.close(fd)
        for name, extra in (("plain", {"PATH": "/bin:/usr/bin"}), ("clean", {})):
            found = dict(entry.split("=", 1) for entry in seen[name].decode().split("\0") if entry)
            id = str(bench.ids[name])
            assert found == {
                **extra, "KEEP": "2", "MINE": "a=b\nc", "DUENDE_DAEMON": name, "DUENDE_DAEMON_ID": id,
                "DUENDE_INSTANCE_ID": f"{id}.1",
            }  # fmt: skip

    play(scene)


def test_user_groups_umask_nice_and_place_are_as_configured(play: Play, folder: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to change users")
    folder.chmod(0o777)

    async def scene(bench: Bench) -> None:
        script = "(id -u; id -g; id -G; umask; nice; pwd; echo $USER $HOME) > said"
        await bench.spawn("sh", "-c", script, user="nobody", umask=0o27, nice=5, working_dir=folder)
        assert (await bench.end()).exit.code == 0
        said = (folder / "said").read_text().split("\n")
        assert said == ["65534", "65534", "65534", "0027", "5", str(folder), "nobody /nonexistent", ""]

    play(scene)


def test_signals_are_at_their_defaults_and_only_three_descriptors_are_open(play: Play, folder: Path) -> None:
    shell = "grep -E '^Sig(Ign|Blk)' /proc/self/status; ls /proc/self/fd"

    async def scene(bench: Bench) -> None:
        await bench.spawn("sh", "-c", f"({shell}) > {folder}/said")
        await bench.end()
        words = (folder / "said").read_text().split()
        # 32 and 33 belong to the C library: nobody can set them, so whoever runs the tests may have left them ignored.
        ours = ~(0b11 << 31)
        assert (words[0], words[2]) == ("SigBlk:", "SigIgn:")
        assert int(words[1], 16) & ours == int(words[3], 16) & ours == 0
        assert words[4:] == ["0", "1", "2", "3"]  # 3 is the one that ls reads the folder with

    play(scene)


def test_the_same_instance_asked_for_twice_is_one(play: Play) -> None:
    """Also while the first answer is still under way, and with a cgroup, which must not be taken for a left-over."""

    async def scene(bench: Bench) -> None:
        first, second = await asyncio.gather(bench.spawn("sleep", "1000"), bench.spawn("sleep", "1000"))
        third = await bench.spawn("sleep", "1000")
        assert first == second == third
        assert len(await until(bench.living, "the instance")) == 1
        assert (await bench.adapter.status(first.handle)).running
        await bench.adapter.kill(first.handle)
        await bench.end()
        assert not [event for event in bench.events if isinstance(event, InstanceExited)]

    play(scene)


def test_fifty_at_once_and_each_exit_is_told_once(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        await asyncio.gather(*(bench.spawn("true", name=f"n{n}") for n in range(50)))
        for n in range(50):
            assert (await bench.end(f"n{n}")).exit.code == 0
        assert not [event for event in bench.events if isinstance(event, InstanceExited)]

    play(scene)


def test_an_exit_that_overtakes_the_answer_is_not_lost(play: Play) -> None:
    """Both wait in the socket when the loop is busy; the exit must not be told before the instance is known."""

    async def scene(bench: Bench) -> None:
        asyncio.get_running_loop().call_soon(time.sleep, 0.3)  # the busy loop
        await bench.spawn("true")
        assert not bench.events  # our caller first learns of the instance
        assert (await bench.end()).exit.code == 0

    play(scene)


def test_two_hundred_spawns_leak_no_descriptor_and_no_zombie(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        async def some(first: int, count: int) -> None:
            for n in range(first, first + count):
                await bench.spawn("true", instance=n)
                await bench.end(instance=n)

        await some(1, 5)
        await until(lambda: not bench.adapter._drain._fds, "the end of the pipes")
        keeper = bench.adapter.keeper_pid
        await until(lambda: not Path(f"/proc/{keeper}/task/{keeper}/children").read_text(), "the reaping")
        # What the keeper closes after the reaping may still be counted, which is few beside two hundred.
        ours, its = len(os.listdir("/proc/self/fd")), len(os.listdir(f"/proc/{keeper}/fd"))
        await some(6, 200)
        await until(lambda: not Path(f"/proc/{keeper}/task/{keeper}/children").read_text(), "the reaping")
        await until(
            lambda: len(os.listdir("/proc/self/fd")) <= ours and len(os.listdir(f"/proc/{keeper}/fd")) <= its,
            "no more descriptors than before",
        )

    play(scene)


def test_output_that_nobody_takes_does_not_stop_the_daemon(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        await bench.spawn("head", "-c", "1000000", "/dev/zero")
        assert (await bench.end()).exit.code == 0

    play(scene)


def test_refused_limits_and_nice_are_told(play: Play, folder: Path) -> None:
    """As a user who may not raise a hard limit: told with what to do, and nothing is left."""
    code = """
import asyncio, resource, sys
from pathlib import Path
from duende.adapters.native.adapter import NativeAdapter
from duende.config.daemon import DaemonConfig
from duende.errors import SpawnFailed
from duende.model.ids import DaemonId
from duende.model.limits import ResourceConfig
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
async def main():
    adapter = NativeAdapter(Path(sys.argv[1]))
    await adapter.open(lambda event: None)
    for fields in ({"nice": -5}, {"resources": ResourceConfig(open_files_max=4096)}):
        try:
            await adapter.spawn(DaemonConfig("d", command=("sleep", "1"), **fields), DaemonId.new())
        except SpawnFailed as error:
            print(error)
    await adapter.close()
asyncio.run(main())
"""
    said = as_nobody(code, folder)
    assert said.splitlines() == [
        "cannot set nice -5: Permission denied (EACCES); values below the present one need root or CAP_SYS_NICE",
        "cannot set the limit NOFILE: Operation not permitted (EPERM); "
        "a hard limit can't be raised without CAP_SYS_RESOURCE",
    ]


def as_nobody(code: str, folder: Path) -> str:
    """Run Python text as uid 65534 with `folder` as its own, and return what it printed."""
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user")
    options: dict[str, Any] = {"user": 65534, "group": 65534, "extra_groups": [], "cwd": "/", "capture_output": True}
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(duende.__file__).parents[1])}
    own = folder / "nobody"
    own.mkdir(mode=0o700)
    os.chown(own, 65534, 65534)
    folder.chmod(0o755)
    for python in (sys.executable, "/usr/bin/python3"):
        try:
            check = "import sys, duende; sys.exit(sys.version_info < (3, 11))"
            if subprocess.run([python, "-c", check], env=env, check=False, **options).returncode == 0:
                break
        except PermissionError:
            continue
    else:
        pytest.skip("needs a Python 3.11 and duende's sources where any user may read them")
    done = subprocess.run([python, "-c", code, str(own)], env=env, text=True, timeout=60, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_pausing_what_a_platform_lacks_and_asking_a_command_is_refused(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        spawned = await bench.spawn("sleep", "1000")
        with pytest.raises(NotSupported, match="asking a daemon that is not a Python class"):
            await bench.adapter.check_health(spawned.handle, 1.0)

    play(scene)


def test_kill_mode_process_leaves_children_and_control_group_signals_all(play: Play, folder: Path) -> None:
    def script(first: str) -> str:
        rest = "while :; do sleep 0.05; done"
        child = f"(trap 'echo child >> {folder}/said; exit 0' TERM; echo up >> {folder}/said; {rest})"
        return f"trap '{first} echo leader >> {folder}/said; exit 0' TERM; {child} & {rest}"

    async def scene(bench: Bench) -> None:
        said = folder / "said"
        spawned = await bench.spawn("sh", "-c", script(""), kill_mode=KillMode.PROCESS)
        await until(lambda: said.exists() and said.read_text() == "up\n", "the child")
        tree = bench.adapter.tree_of(spawned.handle)
        await bench.adapter.signal(spawned.handle, 15)
        await bench.end()
        assert [pid for pid in bench.living() if is_alive(pid)], "the child should go on"
        assert said.read_text() == "up\nleader\n"
        tree.kill()
        said.unlink()
        spawned = await bench.spawn("sh", "-c", script("wait;"), name="all", kill_mode=KillMode.CONTROL_GROUP)
        await until(lambda: said.exists() and said.read_text() == "up\n", "the child")
        await bench.adapter.signal(spawned.handle, 15, tree=True)
        await bench.end("all")
        assert sorted(said.read_text().split()) == ["child", "leader", "up"]

    play(scene)


@pytest.mark.parametrize("base", ["detect", None])
def test_kill_mode_control_group_gives_all_of_the_tree_its_time(play: Play, folder: Path, base: Any) -> None:
    """Also those that take longer than the leader; what does not end by then is killed, and so is all after `kill`."""
    said = folder / "said"
    slow = f"(trap 'sleep 0.3; echo flushed >> {said}; exit 0' TERM; echo up >> {said}; while :; do sleep 0.05; done)"
    deaf = f"(trap '' TERM; echo up >> {said}; while :; do sleep 0.05; done)"

    async def scene(bench: Bench) -> None:
        for n, (child, timeout, last) in enumerate(
            ((slow, 20.0, "flushed"), (deaf, 0.3, "up"), (deaf, 20.0, "up")), start=1
        ):
            said.unlink(missing_ok=True)
            spawned = await bench.spawn(
                "sh", "-c", f"{child} & exec sleep 1000", instance=n, kill_mode=KillMode.CONTROL_GROUP,
                shutdown_timeout=timeout,
            )  # fmt: skip
            await until(lambda: said.exists() and said.read_text() == "up\n", "the child")
            await bench.adapter.signal(spawned.handle, 15, tree=True)
            if n == 3:
                await until(lambda: not is_alive(spawned.handle.pid or 0), "the leader's end")  # noqa: B023
                await bench.adapter.kill(spawned.handle)
            exited = await bench.end(instance=n)
            assert (exited.exit.signal, exited.survivors) == (15, ())
            assert said.read_text().split()[-1] == last

    play(scene, base=base)


def test_out_of_memory_is_told_with_the_limit(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        if bench.adapter.cgroups.base is None:
            pytest.skip(f"needs cgroups: {bench.adapter.cgroups.reason}")
        if not any("memory" in one.controllers for one in bench.adapter.cgroups.base.hierarchies):
            pytest.skip("needs the memory controller")
        code = "data = []\nwhile len(data) < 100: data.append(bytearray(b'x') * (1 << 20))"  # ends at 100 MiB anyway
        limits = ResourceConfig(memory_bytes=30 << 20, memory_swap_bytes=0)
        spawned = await bench.spawn(*_python(code), resources=limits)
        assert not [gap for gap in spawned.limits_not_enforced if gap.startswith("memory_bytes")]
        exited = await bench.end()
        assert exited.exit.reason is ExitReason.RESOURCE_EXHAUSTED, exited
        assert exited.exit.message == f"out of memory (limit {30 << 20} bytes)"

    play(scene)


def test_a_fork_that_finds_no_room_may_be_tried_again(play: Play) -> None:
    """EAGAIN and the like are told apart from what will never work."""
    from duende.adapters.native.render import failed_start, spawn_error

    config = DaemonConfig("d", command=("x",))
    for number in (11, 12, 23, 24, 26):
        error: PlatformError = spawn_error({"stage": "fork", "errno": number, "path": ""}, config)
        assert isinstance(error, ResourceLimit)
        assert failed_start(error, at_s=0.0).transient
    refused = failed_start(spawn_error({"stage": "exec", "errno": 2, "path": "/x"}, config), at_s=0.0)
    assert (refused.transient, refused.errno) == (False, 2)
