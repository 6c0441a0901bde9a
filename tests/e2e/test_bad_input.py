"""Bad configuration and a bad environment, through the real command line: what, where, why and what to do."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness import DUENDE, PATIENCE_S, Cli, Stack, free_port

# --- the file

WRONG = {
    "unknown key": (
        '[daemon.a]\ncommand = "sleep 1"\nrestrat = "always"\n',
        "{file}:3: daemon.a.restrat: unknown key (did you mean `restart`?)",
    ),
    "wrong type": (
        '[daemon.a]\ncommand = "sleep 1"\nautostart = "yes"\n',
        "{file}:3: daemon.a.autostart: ",
    ),
    "a daemon twice": (
        '[daemon.a]\ncommand = "sleep 1"\n\n[daemon.a]\ncommand = "sleep 2"\n',
        "{file}:4: ",
    ),
    "a size that is none": ('[daemon.a]\ncommand = "x"\nresources = { memory_bytes = "lots" }\n',
                            "{file}:3: daemon.a.resources.memory_bytes: "),
    "neither command nor class": ('[daemon.a]\nenv = {}\n', "{file}:1: daemon.a: "),
    "a circle": ('[daemon.a]\ncommand = "x"\nafter = ["b"]\n[daemon.b]\ncommand = "x"\nafter = ["a"]\n', "{file}:"),
    "not TOML": ("[daemon.a\n", "{file}:1: "),
}  # fmt: skip


@pytest.mark.parametrize("verb", [("check",), ("up", "-d")])
@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_is_told_by_line_and_key_and_starts_nothing(
    stack: Stack, case: str, verb: tuple[str, ...]
) -> None:
    text, words = WRONG[case]
    path = stack.write(text)
    done = stack.run(*verb)
    assert done.returncode == 2
    said = done.stdout + done.stderr
    assert words.format(file=path) in said or words.format(file="duende.toml") in said, said
    assert "Traceback" not in said
    assert not stack.our_processes()


def test_several_mistakes_are_all_told_at_once(stack: Stack) -> None:
    path = stack.write('[daemon.a]\ncommand = "x"\nnonsense = 1\n[daemon.b]\ncommand = 5\n[deamon.c]\n')
    done = stack.run("check")
    said = done.stdout + done.stderr
    assert done.returncode == 2
    for line, key in ((3, "daemon.a.nonsense"), (5, "daemon.b.command"), (6, "deamon")):
        assert re.search(rf"{re.escape(path.name)}:{line}: {re.escape(key)}: ", said), said


@pytest.mark.parametrize(("make", "words"), [
    (lambda path: None, ": does not exist"),
    (lambda path: path.symlink_to("x.toml"), ": is a loop of symbolic links (ELOOP)"),
    (lambda path: path.mkdir(), ": is a directory, not a regular file"),
    (lambda path: path.write_bytes(b"\xff\xfe"), ":1: is not UTF-8: byte 0xff at offset 0 (save it as UTF-8)"),
], ids=["missing", "a loop of links", "a directory", "not text"])  # fmt: skip
def test_a_file_that_cannot_be_read_is_told(stack: Stack, make: Callable[[Path], None], words: str) -> None:
    path = stack.folder / "x.toml"
    make(path)
    for verb in (("check",), ("up", "-d")):
        done = stack.run("-c", str(path), *verb)
        assert done.returncode == 2
        assert f"{path}{words}\n" in done.stdout + done.stderr


def test_too_long_a_path_of_the_file_is_told(stack: Stack) -> None:
    done = stack.run("-c", "/" + "x" * 5000, "check")
    assert done.returncode == 2
    assert done.stdout.endswith(": is longer than the system allows for a path or a name (ENAMETOOLONG)\n")


# --- another user


def _as_nobody(stack: Stack, *argv: str, **env: str) -> Cli:
    """The command line as uid 65534, with a Python that this user may read."""
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user")
    stack.root.chmod(0o755)
    stack.folder.chmod(0o755)
    src = Path(__file__).parents[2] / "src"
    places = [str(src), *(path for path in sys.path if path.endswith("site-packages"))]
    for python in (sys.executable, "/usr/bin/python3"):
        options = {"user": 65534, "group": 65534, "extra_groups": [], "cwd": stack.folder, "text": True,
                   "capture_output": True, "check": False, "timeout": PATIENCE_S,
                   "env": {**stack.env, "PYTHONPATH": ":".join(places), "HOME": "/nonexistent", **env}}  # fmt: skip
        try:
            if subprocess.run([python, "-c", "import duende, h11"], **options).returncode:  # type: ignore[call-overload]
                continue
            done = subprocess.run([python, "-m", "duende", *argv], **options)  # type: ignore[call-overload]
        except PermissionError:
            continue
        return Cli(done.args, done.returncode, done.stdout, done.stderr)
    pytest.skip("needs a Python, duende's sources and h11 where any user may read them")


def test_a_file_of_another_user_is_told(stack: Stack) -> None:
    path = stack.write('[daemon.a]\ncommand = "sleep 1"\n')
    path.chmod(0o600)
    done = _as_nobody(stack, "check")
    assert done.returncode == 2
    assert done.stdout == f"error: {path}: can't be read: permission denied\n"


def test_no_right_to_the_socket_directory_is_told(stack: Stack) -> None:
    stack.write('[daemon.a]\ncommand = "sleep 1"\n')
    for folder in (stack.runtime, stack.state):
        folder.mkdir(mode=0o755)
    done = _as_nobody(stack, "up", "-d")
    assert done.returncode == 2, done
    assert "can't create the directory: Permission denied (set DUENDE_RUNTIME_DIR" in done.stderr, done.stderr


def test_a_manager_of_another_user_is_told(stack: Stack) -> None:
    stack.write('[daemon.a]\ncommand = "sleep 1000"\n')
    stack.up()
    done = _as_nobody(stack, "status")
    assert done.returncode in (4, 77, 69, 126), done
    assert "ermission denied" in done.stderr or "may not" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


# --- the folders


@pytest.mark.parametrize("which", ["runtime", "state"])
def test_a_folder_that_others_could_write_is_refused(stack: Stack, which: str) -> None:
    stack.write('[daemon.a]\ncommand = "sleep 1"\n')
    base = getattr(stack, which)
    own = base / stack.name
    own.mkdir(parents=True)
    own.chmod(0o777)
    done = stack.run("up", "-d")
    assert done.returncode == 2
    assert f"{own}: can be written by group or others (mode 0777) (chmod 700 {own})" in done.stderr
    own.rmdir()
    elsewhere = stack.root / "elsewhere"
    elsewhere.mkdir()
    own.symlink_to(elsewhere)
    done = stack.run("up", "-d")
    assert done.returncode == 2
    words = "is a symbolic link, not a directory of our own (remove it, or choose another directory)"
    assert f"{own}: {words}" in done.stderr
    assert not stack.our_processes()


def test_too_long_a_socket_path_is_told_with_what_to_do(stack: Stack) -> None:
    stack.write('[daemon.a]\ncommand = "sleep 1"\n')
    long = stack.root / ("x" * 90)
    done = stack.run("up", "-d", env={"DUENDE_RUNTIME_DIR": str(long)})
    assert done.returncode == 2
    assert "a Unix socket's path can have 107 bytes, this has " in done.stderr
    assert "set DUENDE_RUNTIME_DIR to a shorter directory, or shorten the stack's name" in done.stderr
    assert not stack.our_processes()


# --- what can only be found out at the start


def test_a_missing_program_is_told_by_check_up_and_status(stack: Stack) -> None:
    stack.write('[daemon.a]\ncommand = ["/no/such/program"]\n[daemon.b]\ncommand = ["sleep", "1000"]\n')
    check = stack.run("check")
    assert check.returncode == 2
    assert "/no/such/program" in check.stdout + check.stderr
    done = stack.run("up", "-d")
    words = "cannot execute '/no/such/program': No such file or directory (ENOENT)"
    assert done.returncode == 1
    assert words in done.stdout + done.stderr
    one = stack.daemon("a")
    assert one["status"] == "failed"
    assert one["message"] == f"{words}; not started again (not executable), `duende start a` does"
    assert stack.daemon("b")["status"] == "running"  # one mistake costs the others nothing
    shown = stack.run("status")
    assert "No such file or directory" in shown.stdout


def test_a_missing_user_and_a_missing_folder_are_told(stack: Stack) -> None:
    stack.write('[daemon.a]\ncommand = ["sleep", "1"]\nuser = "no-such-user"\n'
                '[daemon.b]\ncommand = ["sleep", "1"]\nworking_dir = "/no/such"\n')  # fmt: skip
    done = stack.run("up", "-d")
    said = done.stdout + done.stderr
    assert done.returncode in (1, 2)
    assert "no-such-user" in said
    if done.returncode == 1:
        assert "no user 'no-such-user' on this machine (getent passwd no-such-user)" in stack.daemon("a")["message"]
        words = "cannot enter the working directory '/no/such': No such file or directory (ENOENT)"
        assert words in stack.daemon("b")["message"]


@pytest.mark.parametrize(("env", "words"), [
    ({"BIG": "x" * (1 << 20)}, "BIG has 1048581 bytes; the kernel takes 131072 in one string"),
    ({f"V{n}": "x" * 100_000 for n in range(105)}, "bytes"),
], ids=["1 MiB in one variable", "10 MiB in all"])  # fmt: skip
def test_too_large_an_environment_is_told_before_anything_is_executed(
    stack: Stack, env: dict[str, str], words: str
) -> None:
    pairs = "".join(f'{key} = "{value}"\n' for key, value in env.items())
    command = 'command = ["sleep", "1000"]\n'
    stack.write(f"[daemon.a]\n{command}[daemon.a.env]\n{pairs}[daemon.b]\n{command}")
    done = stack.run("up", "-d")
    said = done.stdout + done.stderr
    assert done.returncode in (1, 2)
    assert words in said, said[:2000]
    assert len(said) < 5000
    if done.returncode == 1:
        assert stack.daemon("a")["status"] == "failed"
        assert stack.daemon("b")["status"] == "running"


def test_a_port_in_use_is_shown_by_the_last_lines_of_the_log(stack: Stack) -> None:
    port = free_port()
    server = f'["{sys.executable}", "-u", "-m", "http.server", "--bind", "127.0.0.1", "{port}"]'
    stack.write(f'[daemon.first]\ncommand = {server}\nready = {{ tcp = "127.0.0.1:{port}" }}\n'
                f'[daemon.second]\ncommand = {server}\nafter = {{ first = "ready" }}\n'
                'restart = { delay = "20ms", max_delay = "20ms", crash_limit = 3, crash_window = "1m" }\n')  # fmt: skip
    stack.run("up", "-d")
    one = stack.until(lambda: (it := stack.daemon("second"))["status"] == "failed" and it, "its failure")
    assert (one["exit"]["reason"], one["exit"]["code"]) == ("error", 1)
    assert "Address already in use" in one["log_tail"][-1]
    assert one["message"].startswith("exited with code 1; not started again (crash limit")
    assert "Address already in use" in stack.run("status").stdout
    assert stack.daemon("first")["status"] == "running"


# --- a full disk


@pytest.fixture
def small_disk(stack: Stack) -> Iterator[tuple[Stack, list[str]]]:
    """The state folder on a disk of 2 MiB, mounted in a mount namespace that only this test's processes are in."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a small file system")
    stack.state.mkdir(mode=0o700)
    script = f"mount -t tmpfs -o size=2m,mode=700 none {stack.state} && echo ready && exec sleep 1000"
    holder = subprocess.Popen(["unshare", "--mount", "sh", "-c", script], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "ready\n"
    yield stack, ["nsenter", "--mount", "--target", str(holder.pid), "--"]
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()


def _inside(stack: Stack, prefix: list[str], *argv: str) -> subprocess.CompletedProcess[str]:
    command = [*prefix, *argv]
    return subprocess.run(command, env=stack.env, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def test_a_full_disk_stops_nothing_is_told_and_is_survived(small_disk: tuple[Stack, list[str]]) -> None:
    stack, prefix = small_disk
    stack.write('[daemon.a]\ncommand = ["sleep", "1000"]\nrestart = { delay = "0s" }\n'
                '[daemon.b]\ncommand = ["sleep", "1000"]\n')  # fmt: skip

    def duende(*argv: str) -> Cli:
        done = _inside(stack, prefix, *DUENDE, "-c", str(stack.folder / "duende.toml"), *argv)
        return Cli(done.args, done.returncode, done.stdout, done.stderr)

    def messages() -> list[str]:
        return [json.loads(line)["message"] for line in duende("--json", "events").stdout.splitlines()]

    assert duende("up", "-d", "--no-restarter").returncode == 0
    filling = _inside(stack, prefix, "dd", "if=/dev/zero", f"of={stack.state}/fill", "bs=4096")
    assert "No space left" in filling.stderr
    before = {one["name"]: one for one in duende("--json", "status").json["daemons"]}
    os.kill(before["a"]["pid"], signal.SIGKILL)
    back = stack.until(
        lambda: (one := duende("--json", "status").json["daemons"][0])["restarts"] == 1 and one["ready"] and one,
        "the restart on a full disk",
    )
    assert back["pid"] != before["a"]["pid"]
    stack.until(lambda: any("database or disk is full" in message for message in messages()), "the alert")
    done = duende("stop", "b")
    assert done.returncode == 0, done.stderr
    assert duende("start", "b").returncode == 0
    again = duende("restart", "a")
    assert again.returncode == 0, again.stderr
    _inside(stack, prefix, "rm", f"{stack.state}/fill")
    stack.until(lambda: any("can be written again" in message for message in messages()), "the all-clear")
    # What happened meanwhile is on the disk now: the next manager goes on from there.
    status = duende("--json", "status").json
    os.kill(status["manager"]["pid"], signal.SIGKILL)
    stack.until(lambda: duende("status").returncode == 69, "the manager's end")
    assert duende("up", "-d", "--no-restarter").returncode == 0
    after = duende("--json", "status").json
    assert [one["pid"] for one in after["daemons"]] == [one["pid"] for one in status["daemons"]]
    # And it can be ended on a full disk.
    _inside(stack, prefix, "dd", "if=/dev/zero", f"of={stack.state}/fill", "bs=4096")
    down = duende("down")
    assert down.returncode == 0, down.stderr
    stack.until(lambda: not _living(stack), "the end of everything")


def _living(stack: Stack) -> list[int]:
    return [pid for pid in stack.our_processes() if b"sleep\x001000" not in Path(f"/proc/{pid}/cmdline").read_bytes()]
