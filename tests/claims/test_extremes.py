"""F108, F109, F110: what the kernel refuses is refused with a clear word, before any harm, and never hangs."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from tests.claims.library import is_alive
from tests.harness import Cli, Stack

KIB = 1024
QUICK_S = 15.0  # a refusal takes a fraction of a second; a hang takes for ever


def complaint(stack: Stack, *argv: str) -> Cli:
    """A command that must fail, soon, in words and not with a traceback."""
    done = stack.run(*argv, timeout_s=QUICK_S)
    assert done.returncode not in (0, 130), argv
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    return done


def says(stack: Stack, *words: str) -> None:
    """`up` fails or the daemon does, and the terminal or the status has these words; then nothing of it runs."""
    up = complaint(stack, "up", "-d", "--no-restarter")
    said = up.stdout + up.stderr
    if (stack.runtime / stack.name / "duende.sock").exists():
        one = stack.daemon("one")
        assert one["pid"] is None
        assert one["status"] in ("failed", "backoff")
        said += one["message"]
        assert stack.daemon("two")["status"] == "running"  # the misfortune of one is not that of the others
        assert stack.run("down").returncode == 0
    for word in words:
        assert word in said, said[-2000:]


def up_with(stack: Stack, daemon: str) -> None:
    stack.write(f'[daemon.one]\n{daemon}\n[daemon.two]\ncommand = ["sleep", "1000"]\n')


@pytest.mark.claim("F108")
def test_a_huge_environment_is_refused(stack: Stack, claim_figure) -> None:
    """The kernel takes 128 KiB in one string and a quarter of the stack limit in all, in execve(2)."""
    one_mib = json.dumps("x" * KIB * KIB)
    up_with(stack, f'command = ["sleep", "1000"]\nenv = {{ HUGE = {one_mib} }}')
    says(stack, "HUGE", "131072")

    many = ", ".join(f'V{n} = "{"y" * 100 * KIB}"' for n in range(103))  # 10 MiB in all
    up_with(stack, f'command = ["sleep", "1000"]\nenv = {{ {many} }}')
    says(stack, "environment")

    # The variable of the one who calls, which is handed down; Linux lets nobody have 128 KiB in one string.
    inherited = {f"CALLER{n}": "z" * 120 * KIB for n in range(10)}  # 1.2 MiB in all
    stack.write(
        '[daemon.one]\ncommand = ["sleep", "1000"]\n[daemon.two]\nclean_env = true\ncommand = ["sleep", "1000"]\n'
    )
    assert stack.run("up", "-d", "--no-restarter", env=inherited).returncode == 0
    for name, expected in (("one", 10), ("two", 0)):
        seen = Path(f"/proc/{stack.daemon(name)['pid']}/environ").read_bytes()
        assert seen.count(b"z" * 120 * KIB) == expected
    assert stack.run("down").returncode == 0

    # A Python class is not executed but forked: there it may be as large as it likes, and must arrive whole.
    stack.file(
        "large.py",
        "import os\nfrom duende import Daemon\nclass Large(Daemon):\n"
        "    def init(self, config):\n"
        "        size = sum(len(v) for k, v in os.environ.items() if k[:4] in ('HUGE', 'WIDE'))\n"
        "        open('sizes', 'w').write(str(size))\n"
        "    async def run(self, ctx):\n        await ctx.wait_shutdown()\n",
    )
    wide = ", ".join(f'WIDE{n} = "{"w" * 100 * KIB}"' for n in range(93))
    up_with(stack, f'daemon = "large:Large"\nenv = {{ HUGE = {one_mib}, {wide} }}')
    began_s = time.monotonic()
    done = stack.run("up", "-d", "--no-restarter")
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
    claim_figure("a class with 10 MiB ready after", time.monotonic() - began_s, "s")
    assert (stack.folder / "sizes").read_text() == str(KIB * KIB + 93 * 100 * KIB)
    assert is_alive(stack.daemon("one")["pid"])


@pytest.mark.claim("F109")
def test_a_path_too_long_is_refused(stack: Stack, claim_figure) -> None:
    """Longer than PATH_MAX in all (4096), and with a part longer than NAME_MAX (255): everywhere a path may stand."""
    long = "/" + "/".join(["d" * 200] * 25)
    part = "/tmp/" + "n" * 300
    assert len(long) > os.pathconf("/", "PC_PATH_MAX")
    words = "File name too long"
    tried = 0
    for path in (long, part):
        for daemon in (
            f'command = ["{path}"]',
            f'command = ["sleep", "1000"]\nworking_dir = "{path}"',
            f'daemon = "{path}/mod.py:Class"',
            f'command = ["sleep", "1000"]\nenv_file = "{path}"',
            f'command = ["sleep", "1000"]\nlog = {{ directory = "{path}" }}',
            f'command = ["sleep", "1000"]\npid_file = "{path}"',
        ):
            up_with(stack, daemon)
            up = stack.run("up", "-d", "--no-restarter", timeout_s=QUICK_S)
            said = up.stdout + up.stderr
            assert "Traceback" not in said, said
            if (stack.runtime / stack.name / "duende.sock").exists():
                assert stack.daemon("two")["status"] == "running"
                said += stack.daemon("one")["message"] + stack.run("events").stdout
                said += "\n".join(stack.daemon("one")["log_tail"])
                assert stack.run("down").returncode == 0
            if "env_file" not in daemon and "log =" not in daemon and "pid_file" not in daemon:
                assert up.returncode != 0, daemon[:60]
            assert words in said or "ENAMETOOLONG" in said, (daemon[:60], said[-1000:])
            tried += 1
        up_with(stack, 'command = ["sleep", "1000"]')
        for argv in (("-c", path, "up", "-d"), ("-c", path, "check"), ("-c", f"{path}/duende.toml", "up")):
            said = complaint(stack, *argv)
            assert "ENAMETOOLONG" in said.stdout + said.stderr, (argv, said.stderr)
            tried += 1
        for variable in ("DUENDE_RUNTIME_DIR", "DUENDE_STATE_DIR"):
            done = stack.run("up", "-d", "--no-restarter", env={variable: path}, timeout_s=QUICK_S)
            assert done.returncode == 2, done.stderr
            assert words in done.stderr or "can have 107 bytes" in done.stderr, done.stderr
            tried += 1
    claim_figure("paths refused", tried, "")


@pytest.mark.claim("F110")
def test_a_symlink_loop_is_refused(stack: Stack, claim_figure) -> None:
    """The configuration itself, a folder on the way to it, and every other file that is read by name."""
    loop = stack.folder / "loop"
    os.symlink("pool", loop)
    os.symlink("loop", stack.folder / "pool")
    words = "symbolic links"  # by the kernel's "Too many levels of symbolic links" or our "is a loop of symbolic links"
    tried = 0
    for argv in (
        ("-c", "loop", "up", "-d"),
        ("-c", "loop", "up"),
        ("-c", "loop", "check"),
        ("-c", "loop/duende.toml", "check"),
        ("-c", "loop/duende.toml", "up", "-d"),
        ("-c", "loop", "status"),
    ):
        began_s = time.monotonic()
        done = complaint(stack, *argv)
        if argv[-1] != "status":  # which only needs the stack's name from it, and then finds no manager
            assert words in done.stdout + done.stderr, (argv, done.stderr)
        assert time.monotonic() - began_s < QUICK_S
        tried += 1
    # Found by the search, not named.
    own = stack.folder / "duende.toml"
    own.unlink()
    os.symlink("loop", own)
    for argv in (("up", "-d"), ("check",), ("up",)):
        done = complaint(stack, *argv)
        assert words in done.stdout + done.stderr
        tried += 1
    own.unlink()
    # A drop-in of a good configuration.
    drop_ins = stack.folder / "conf.d"
    drop_ins.mkdir()
    os.symlink("../loop", drop_ins / "x.toml")
    stack.write('[daemon.one]\ncommand = ["sleep", "1000"]\n')
    assert words in complaint(stack, "up", "-d").stderr
    (drop_ins / "x.toml").unlink()
    for daemon in (
        'command = ["./loop"]',
        'command = ["sleep", "1000"]\nworking_dir = "loop"',
        'daemon = "loop.py:Class"',
        'command = ["sleep", "1000"]\nenv_file = "loop"',
    ):
        if "loop.py" in daemon:
            os.symlink("loop.py", stack.folder / "loop.py")
            up_with(stack, f'daemon = "{stack.folder}/loop.py:Class"')
            says(stack, "loop.py")
        else:
            up_with(stack, daemon)
            says(stack, words)
        tried += 1
    claim_figure("loops refused", tried + 1, "")
