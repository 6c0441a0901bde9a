"""F105: what daemons leave behind is reaped, by a manager among others and by one that is process 1 of a container."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.harness import DUENDE, PATIENCE_S, Stack

ORPHANS = 1000
WITHIN_S = 5.0

# Each of its children ends at once and leaves a child that lives a little longer: an orphan, then a zombie.
LEAVING = """\
import os, sys, time
for n in range(int(sys.argv[1])):
    if os.fork() == 0:
        if os.fork() == 0:
            time.sleep(0.01 + n % 10 / 100)
        os._exit(0)
    os.wait()
open(sys.argv[2], "w").write("done")
time.sleep(1000)
"""


def zombies(session: int) -> list[int]:
    """Every zombie of that session, whoever its parent is now: a daemon leads its own."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_bytes().rpartition(b")")[2].split()
            except OSError:
                continue
            if fields[0] == b"Z" and int(fields[3]) == session:
                found.append(int(entry.name))
    return found


def none_left_after_s(count, limit_s: float = WITHIN_S) -> float:
    """How long until no zombie is left; fails when some are after the limit."""
    began_s = time.monotonic()
    while left := count():
        assert time.monotonic() - began_s < limit_s, f"{len(left)} zombies are left: {left}"
        time.sleep(0.01)
    return time.monotonic() - began_s


@pytest.mark.claim("F105")
def test_zombies_are_reaped(stack: Stack, claim_figure) -> None:
    stack.file("leaving.py", LEAVING)
    toml = f'[daemon.leaving]\ncommand = ["python3", "-S", "leaving.py", "{ORPHANS}", "done"]\n'
    stack.write(toml)

    # Beside others: they fall to the keeper.
    stack.up()
    done = stack.folder / "done"
    stack.until(lambda: done.exists() and done.read_text(), "the last orphan")
    one = stack.daemon("leaving")
    claim_figure("none left after", none_left_after_s(lambda: zombies(one["pid"])), "s")
    one = stack.daemon("leaving")
    assert (one["status"], one["restarts"]) == ("running", 0)
    assert stack.run("down").returncode == 0
    done.unlink()

    # As process 1: also what strangers leave behind, who were put into the container from outside.
    outer = subprocess.Popen(
        ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", *DUENDE, "up"],
        cwd=stack.folder, env=stack.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT,
    )  # fmt: skip
    stack.processes.append(outer)
    stack.until(lambda: done.exists() and done.read_text(), "the last orphan of the container")
    (manager,) = map(int, Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split())
    enter = ["nsenter", "--target", str(manager), "--pid", "--mount", "--"]
    stranger = subprocess.run(
        [*enter, sys.executable, "-S", "-c", LEAVING.replace("time.sleep(1000)", ""), str(ORPHANS),
         str(stack.folder / "strangers")],
        timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert stranger.returncode == 0
    code = (
        "import os\n"
        "for pid in filter(str.isdigit, os.listdir('/proc')):\n"
        "    try: stat = open(f'/proc/{pid}/stat').read()\n"
        "    except OSError: continue\n"
        "    if stat.rpartition(')')[2].split()[0] == 'Z': print(stat)\n"
    )

    def inside() -> list[str]:
        listed = subprocess.run([*enter, sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True)
        return listed.stdout.splitlines()

    claim_figure("as process 1", none_left_after_s(inside), "s")
    outer.poll()
    assert outer.returncode is None  # the manager is alive, and so is what it looks after
    assert stack.daemon("leaving")["restarts"] == 0
    assert stack.run("down").returncode == 0
    outer.wait(PATIENCE_S)
